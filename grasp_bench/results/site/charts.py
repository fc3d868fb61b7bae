"""The charts of a leaderboard: what is drawn, from which numbers, and the same numbers as a table."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from grasp_bench.results.site.bars import bars
from grasp_bench.results.site.boards import Board, ranked, rarest_group
from grasp_bench.results.site.plots import Panel, Point, Series, plots
from grasp_bench.results.table import Cell, MeanCost, MetricTable

BETTER = {"lower": "lower is better", "higher": "higher is better"}
MOST_CLASSES = 40  # points of a curve; beyond, classes of like train count are taken together
COSTS: tuple[tuple[str, Callable[[MeanCost], float]], ...] = (
    ("trainable parameters", lambda cost: cost.trainable_parameters),
    ("training seconds", lambda cost: cost.train_seconds),
    ("evaluations per image", lambda cost: cost.network_evaluations_per_image),
)
ABSENT = "-"


@dataclass(frozen=True)
class Chart:
    """A picture, what it shows, and its numbers."""

    title: str
    caption: str
    picture: Markup
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    metric: str = ""
    """The metric that it is of; empty for one that is of none."""


def metric_charts(board: Board, metric: MetricTable) -> Iterator[Chart]:
    """Bars of groups, classes over their train count, and what the score costs."""
    if any(cell.mean is not None for scores in metric.scores.values() for cell in scores.values()):
        yield _bars(board, metric)
    yield from _classes(board, metric)
    yield from _pareto(board, metric)


def training_chart(board: Board) -> Iterator[Chart]:
    """The training loss of each group."""
    losses = {label: list(_losses(board, label)) for label in board.indices}
    groups = list(dict.fromkeys(group for rows in losses.values() for _, group, _ in rows))
    if not groups:
        return
    panels, rows = [], []
    for group in groups:
        series = []
        for label, index in board.indices.items():
            by_step: dict[float, list[float]] = {}
            for step, name, loss in losses[label]:
                if name == group:
                    by_step.setdefault(step, []).append(loss)
            means = [(step, float(np.mean(each))) for step, each in sorted(by_step.items())]
            if means:
                points = tuple(Point(x, y, f"{label}, {group}, step {x:g}: {y:.4g}") for x, y in means)
                series.append(Series(label, index, points))
                rows.append((label, group, f"{means[0][1]:.4g}", f"{means[-1][1]:.4g}"))
        panels.append(Panel(group, "step", tuple(series)))
    title = "Training loss by group"
    caption = "Mean squared error on the training images of each group since the row of the log before, over all seeds."
    columns = ("method", "group", "first loss", "last loss")
    yield Chart(title, caption, plots(title, caption, "loss", panels), columns, rows)


def _losses(board: Board, label: str) -> Iterator[tuple[float, str, float]]:
    """Step, group and loss, of all seeds."""
    for run in board.finished(label):
        for row in run.files.log:
            for group, loss in row.group_loss.items():
                if loss is not None:
                    yield row.step, group, loss


def _bars(board: Board, metric: MetricTable) -> Chart:
    order = ranked(metric, rarest_group(metric))
    title = f"{metric.label} by group"
    floor = " The dashed line is the floor: real images against held-out real ones at the same count."
    caption = (
        f"Mean over seeds, with the 95 % interval from three seeds on; {BETTER[metric.direction]}; the best "
        f"{rarest_group(metric)} first.{floor if metric.floors else ''}"
    )
    rows = [(label, group, *_numbers(cell)) for label in order for group, cell in metric.scores[label].items()]
    rows += [("floor", group, f"{floor:.4g}", ABSENT, ABSENT) for group, floor in metric.floors.items()]
    columns = ("method", "group", "mean", "low", "high")
    return Chart(title, caption, bars(title, caption, metric, order, board.indices), columns, rows, metric.name)


def _numbers(cell: Cell) -> tuple[str, str, str]:
    mean, low, high = (ABSENT if value is None else f"{value:.4g}" for value in (cell.mean, cell.low, cell.high))
    return mean, low, high


def _classes(board: Board, metric: MetricTable) -> Iterator[Chart]:
    """A metric of every class over its train count."""
    series, rows, floors = [], [], dict[str, list[tuple[int, float]]]()
    merged = False
    for label, index in board.indices.items():
        values: dict[str, list[tuple[int, float]]] = {}
        for run in board.finished(label):
            for name, score in run.files.classes.get(metric.name, {}).items():
                if score.value is not None:
                    values.setdefault(name, []).append((score.train_images, score.value))
                if score.floor is not None:
                    floors.setdefault(name, []).append((score.train_images, score.floor))
        points = _binned(values)
        merged = merged or len(points) < len(values)
        if points:
            told = tuple(Point(x, y, f"{label}, {names} ({x:g} training images): {y:.4g}") for x, y, names in points)
            series.append(Series(label, index, told))
            rows += [(label, names, f"{x:g}", f"{y:.4g}") for x, y, names in points]
    if not series:
        return
    floor = tuple((x, y) for x, y, _ in _binned(floors))
    title = f"{metric.label} of every class, by its training images"
    caption = (
        f"Mean over seeds; rare classes are at the left; {BETTER[metric.direction]}."
        + " The dashed line is the floor." * bool(floor)
        + f" Classes of like train count are taken together to {MOST_CLASSES} points." * merged
    )
    panel = Panel("", "training images of the class (logarithmic)", tuple(series), log_x=True, reference=floor)
    columns = ("method", "class", "training images", "mean")
    yield Chart(title, caption, plots(title, caption, metric.label, [panel], height=400), columns, rows, metric.name)


def _binned(values: dict[str, list[tuple[int, float]]]) -> list[tuple[float, float, str]]:
    """Train count, mean value and name of each class by train count; of many classes, of neighbours together."""
    each = sorted(
        (float(seen[0][0]), float(np.mean([value for _, value in seen])), name) for name, seen in values.items()
    )
    if len(each) <= MOST_CLASSES:
        return each
    parts = (each[part[0] : part[-1] + 1] for part in np.array_split(np.arange(len(each)), MOST_CLASSES))
    return [
        (float(np.mean([x for x, _, _ in part])), float(np.mean([y for _, y, _ in part])), f"{len(part)} classes")
        for part in parts
    ]


def _pareto(board: Board, metric: MetricTable) -> Iterator[Chart]:
    """A score against what it costs, with the methods that none beats in both."""
    group = rarest_group(metric)
    panels, rows = [], []
    for cost_title, cost_of in COSTS:
        found = [
            (label, cost_of(row.cost), cell.mean)
            for label, row in ((row.label, row) for row in board.table.rows)
            if row.cost and (cell := metric.scores.get(label, {}).get(group)) and cell.mean is not None
        ]
        if not found:
            return
        front = pareto_front([(cost, score) for _, cost, score in found], metric.direction == "lower")
        ends = sorted((found[number][1], found[number][2]) for number in front)
        series = tuple(
            Series(
                label,
                board.indices[label],
                (Point(cost, score, f"{label}: {score:.4g} at {cost:,.6g} {cost_title}"),),
                joined=False,
                label=label if number in front else "",
            )
            for number, (label, cost, score) in enumerate(found)
        )
        log = max(cost for _, cost, _ in found) > 5 * min(cost for _, cost, _ in found) > 0
        panels.append(Panel("", cost_title, series, log_x=log, reference=_steps(ends)))
        rows += [
            (label, cost_title, f"{cost:,.6g}", f"{score:.4g}", "yes" if number in front else "no")
            for number, (label, cost, score) in enumerate(found)
        ]
    title = f"{metric.label} of the {group} against its cost"
    caption = (
        f"Means over seeds; {BETTER[metric.direction]}, and less cost is. No method beats those on the dashed front, "
        "which are named, in both."
    )
    columns = ("method", "cost", "its value", f"{group} score", "on the front")
    yield Chart(title, caption, plots(title, caption, f"{metric.label}, {group}", panels), columns, rows, metric.name)


def pareto_front(points: Sequence[tuple[float, float]], lower: bool) -> set[int]:
    """The numbers of the ``points`` (cost, score) that no other is at least as good as in both and better in one."""
    signed = [(cost, score if lower else -score) for cost, score in points]

    def beaten(mine: tuple[float, float], others: Iterable[tuple[float, float]]) -> bool:
        return any(other != mine and other[0] <= mine[0] and other[1] <= mine[1] for other in others)

    return {number for number, mine in enumerate(signed) if not beaten(mine, signed)}


def _steps(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """The staircase through the front: what is reached at a cost holds until the next point."""
    corners = [points[0]]
    for (_, before), (cost, score) in itertools.pairwise(points):
        corners += [(cost, before), (cost, score)]
    return tuple(corners)
