"""The charts of a leaderboard, each with the numbers that it shows as a table."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from grasp_bench.results.site.bars import bars
from grasp_bench.results.site.boards import Board, Metric
from grasp_bench.results.site.plots import Panel, Point, Series, plots

if TYPE_CHECKING:
    import pandas as pd

BETTER = {"lower": "lower is better", "higher": "higher is better"}
MOST_CLASSES = 40  # points of a curve; beyond, classes of similar train count are averaged
COSTS = {
    "trainable_parameters": "trainable parameters",
    "train_seconds": "training seconds",
    "network_evaluations_per_image": "NFE per image",
}
"""Column of the costs → its title."""
ABSENT = "-"


@dataclass(frozen=True)
class Chart:
    """A picture, its caption and its numbers."""

    title: str
    caption: str
    picture: Markup
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def metric_charts(board: Board, metric: Metric) -> Iterator[Chart]:
    """Yield bars of groups, classes over their train count, and the score over its cost."""
    if metric.cells["mean"].notna().any():
        yield _bars(board, metric)
    yield from _classes(board, metric)
    yield from _pareto(board, metric)


def training_chart(board: Board) -> Iterator[Chart]:
    """Yield the training loss of each group."""
    if board.losses.empty:
        return
    means = board.losses.groupby(["group", "row", "step"], sort=False)["loss"].mean().reset_index()
    panels, rows = [], []
    for group, of_group in means.groupby("group", sort=False):
        series = []
        for label, found in of_group.groupby("row", sort=False):
            points = list(found.sort_values("step")[["step", "loss"]].itertuples(index=False, name=None))
            told = tuple(Point(x, y, f"{label}, {group}, step {x:g}: {y:.4g}") for x, y in points)
            series.append(Series(str(label), board.indices[str(label)], told))
            rows.append((str(label), str(group), f"{points[0][1]:.4g}", f"{points[-1][1]:.4g}"))
        panels.append(Panel(str(group), "step", tuple(series)))
    title = "Training loss by group"
    caption = "Mean squared error on the training images of each group since the previous log row, over all seeds."
    columns = ("method", "group", "first loss", "last loss")
    yield Chart(title, caption, plots(title, caption, "loss", panels), columns, rows)


def _bars(board: Board, metric: Metric) -> Chart:
    order = list(metric.means().index)
    title = f"{metric.label} by group"
    reference = " The dashed line is the real reference: real images against held-out real images at the same count."
    caption = (
        f"Mean over seeds, with the 95 % interval from three seeds on; {BETTER[metric.direction]}; the best "
        f"{metric.rarest} first.{reference if metric.references else ''}"
    )
    cells = metric.cells.loc[order][["label", "group", "mean", "low", "high"]]
    rows = [(row, group, *map(_shown, numbers)) for row, group, *numbers in cells.itertuples(index=False, name=None)]
    rows += [("real reference", group, _shown(each), ABSENT, ABSENT) for group, each in metric.references.items()]
    columns = ("method", "group", "mean", "low", "high")
    return Chart(title, caption, bars(title, caption, metric, order, board.indices), columns, rows)


def _shown(value: float) -> str:
    return ABSENT if value != value else f"{value:.4g}"  # NaN


def _classes(board: Board, metric: Metric) -> Iterator[Chart]:
    """Yield a metric of every class over its train count."""
    found = board.classes(metric)
    if found.empty or (scored := found.dropna(subset="value")).empty:
        return
    series, rows, merged = [], [], False
    for label, of_row in scored.groupby("row", sort=False):
        points = _binned(of_row, "value")
        merged = merged or len(points) < of_row["class"].nunique()
        told = tuple(Point(x, y, f"{label}, {names} ({x:g} training images): {y:.4g}") for x, y, names in points)
        series.append(Series(str(label), board.indices[str(label)], told))
        rows += [(str(label), names, f"{x:g}", f"{y:.4g}") for x, y, names in points]
    reference = tuple((x, y) for x, y, _ in _binned(found.dropna(subset="reference"), "reference"))
    title = f"{metric.label} of every class, by its training images"
    caption = (
        f"Mean over seeds; rare classes are at the left; {BETTER[metric.direction]}."
        + " The dashed line is the real reference." * bool(reference)
        + f" Classes of similar train count are averaged to {MOST_CLASSES} points." * merged
    )
    panel = Panel("", "training images of the class (logarithmic)", tuple(series), log_x=True, reference=reference)
    columns = ("method", "class", "training images", "mean")
    yield Chart(title, caption, plots(title, caption, metric.label, [panel], height=400), columns, rows)


def _binned(scores: pd.DataFrame, column: str) -> list[tuple[float, float, str]]:
    """Return train count, mean value and name of each class by train count; neighbours of many classes are averaged."""
    means = scores.groupby("class", sort=False).agg(train_images=("train_images", "first"), value=(column, "mean"))
    each = sorted(zip(means["train_images"].astype(float), means["value"], means.index, strict=True))
    if len(each) <= MOST_CLASSES:
        return each
    parts = (each[part[0] : part[-1] + 1] for part in np.array_split(np.arange(len(each)), MOST_CLASSES))
    return [
        (float(np.mean([x for x, _, _ in part])), float(np.mean([y for _, y, _ in part])), f"{len(part)} classes")
        for part in parts
    ]


def _pareto(board: Board, metric: Metric) -> Iterator[Chart]:
    """Yield a score over what it costs, with the methods that none beats in both."""
    group = metric.rarest
    found = board.costs.assign(score=metric.means()).dropna(subset=["score", *COSTS])
    if found.empty:
        return
    panels, rows = [], []
    for column, title in COSTS.items():
        costs, values = found[column].tolist(), found["score"].tolist()
        front = pareto_front(list(zip(costs, values, strict=True)), metric.direction == "lower")
        points = list(zip(found.index, costs, values, strict=True))
        series = tuple(
            Series(
                label,
                board.indices[label],
                (Point(cost, score, f"{label}: {score:.4g} at {cost:,.6g} {title}"),),
                joined=False,
                label=label if number in front else "",
            )
            for number, (label, cost, score) in enumerate(points)
        )
        steps = _steps(sorted((costs[number], values[number]) for number in front))
        log = max(costs) > 5 * min(costs) > 0
        panels.append(Panel("", title, series, log_x=log, reference=steps))
        rows += [
            (label, title, f"{cost:,.6g}", f"{score:.4g}", "yes" if number in front else "no")
            for number, (label, cost, score) in enumerate(points)
        ]
    title = f"{metric.label} of the {group} against its cost"
    caption = (
        f"Means over seeds; {BETTER[metric.direction]}, and so is a lower cost. No method beats those on the dashed "
        "front, which are named, in both."
    )
    columns = ("method", "cost", "its value", f"{group} score", "on the front")
    yield Chart(title, caption, plots(title, caption, f"{metric.label}, {group}", panels), columns, rows)


def pareto_front(points: Sequence[tuple[float, float]], lower: bool) -> set[int]:
    """Return the numbers of the ``points`` (cost, score) that no other point dominates."""
    signed = [(cost, score if lower else -score) for cost, score in points]

    def beaten(mine: tuple[float, float], others: Iterable[tuple[float, float]]) -> bool:
        return any(other != mine and other[0] <= mine[0] and other[1] <= mine[1] for other in others)

    return {number for number, mine in enumerate(signed) if not beaten(mine, signed)}


def _steps(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Return the staircase through the front: the score at a cost holds until the next point."""
    corners = [points[0]]
    for (_, before), (cost, score) in itertools.pairwise(points):
        corners += [(cost, before), (cost, score)]
    return tuple(corners)
