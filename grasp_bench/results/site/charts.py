"""The charts of a leaderboard, each with the numbers that it shows as a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from pydantic import JsonValue

from grasp_bench.results.site import drawing
from grasp_bench.results.site.boards import Board, Metric, Run
from grasp_bench.results.site.folder import Composition

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

BETTER = {"lower": "lower is better", "higher": "higher is better"}
MOST_POINTS = 40  # of a curve; beyond, neighbours are averaged
MOST_NAMES = 5  # of classes that have one train count
COSTS = {
    "trainable_parameters": "trainable parameters",
    "train_seconds": "training seconds",
    "network_evaluations_per_image": "NFE per image",
}
"""Column of the costs → its title."""
ABSENT = "-"
USAGE = "expert_usage"
MOST_CELLS = 1500  # of a partition that is drawn; a larger one becomes a table of sums
LARGEST = 2**53  # of a step or a share: a record may hold any number, and infinity


@dataclass(frozen=True)
class Chart:
    """A picture, its caption and its numbers."""

    title: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, ...]]
    drawn: alt.TopLevelMixin | None = None
    """Chart that the browser draws."""
    picture: Markup | None = None
    """Static picture instead."""

    @property
    def specification(self) -> dict[str, Any] | None:
        """Vega-Lite specification of the chart; None where there is none."""
        return None if self.drawn is None else drawing.specification(self.drawn, f"{self.title}. {self.caption}")


def metric_charts(board: Board, metric: Metric) -> Iterator[Chart]:
    """Yield head against tail, the score over the train count of classes, and over its cost."""
    yield from _trade_off(board, metric)
    yield from _classes(board, metric)
    yield from _pareto(board, metric)


def training_chart(board: Board) -> Iterator[Chart]:
    """Yield the training loss of each group."""
    if board.losses.empty:
        return
    means = board.losses.groupby(["group", "series", "step"], sort=False)["loss"].mean().reset_index()
    points = means.sort_values("step", kind="stable").assign(name=means["series"].map(board.names))
    ends = points.groupby(["group", "series"], sort=False)["loss"].agg(["first", "last"])
    rows = [(board.names[series], group, f"{a:.4g}", f"{b:.4g}") for (group, series), a, b in ends.itertuples()]
    points = points.rename(columns={"step": "x", "loss": "y"})
    caption = "Mean squared error on the training images of each group since the previous log row, over all seeds."
    drawn = drawing.lines(points, ("step", "loss"), list(board.indices), board.highlighted)
    yield Chart("Training loss by group", caption, ("method", "group", "first loss", "last loss"), rows, drawn)


def _trade_off(board: Board, metric: Metric) -> Iterator[Chart]:
    """Yield the score of the most frequent classes against that of the rarest."""
    head, tail = metric.groups[0], metric.rarest
    table = metric.cells["mean"].unstack("group")
    if head == tail or not {head, tail} <= set(table.columns):
        return
    found = table[[head, tail]].dropna().reset_index()
    if found.empty:
        return
    points = found.set_axis(["series", "x", "y"], axis=1).assign(name=found["row"].map(board.names))
    caption = f"Means over seeds; {BETTER[metric.direction]} in both."
    reference = None
    if {head, tail} <= metric.references.keys():
        reference = (metric.references[head], metric.references[tail])
        caption += " The cross is the real reference."
    numbers = points[["name", "x", "y"]].itertuples(index=False)
    rows: list[tuple[str, ...]] = [(name, _shown(x), _shown(y)) for name, x, y in numbers]
    if reference:
        rows.append(("real reference", *map(_shown, reference)))
    titles = (f"{metric.label}, {head}", f"{metric.label}, {tail}")
    drawn = drawing.points(points, titles, list(board.indices), board.highlighted, reference)
    yield Chart(f"{metric.label}: {head} against {tail}", caption, ("method", head, tail), rows, drawn)


def _shown(value: float) -> str:
    return ABSENT if value != value else f"{value:.4g}"  # NaN


def _classes(board: Board, metric: Metric) -> Iterator[Chart]:
    """Yield a metric of single classes over their train count."""
    import pandas as pd

    found = board.classes(metric)
    if found.empty or (scored := found.dropna(subset="value")).empty:
        return
    parts = [_binned(each, "value").assign(series=series) for series, each in scored.groupby("series", sort=False)]
    points = pd.concat(parts, ignore_index=True)
    points["name"] = points["series"].map(board.names)
    reference = _binned(found.dropna(subset="reference"), "reference")
    title = f"{metric.label} of single classes, by their training images"
    caption = (
        f"Mean over classes with as many training images, and over seeds; rare classes are at the left; "
        f"{BETTER[metric.direction]}."
        + " The dashed line is the real reference." * bool(len(reference))
        + f" Neighbours are averaged to {MOST_POINTS} points."
        * bool(scored.groupby("series")["train_images"].nunique().max() > MOST_POINTS)
    )
    numbers = points[["name", "x", "classes", "y"]].itertuples(index=False, name=None)
    rows = [(name, f"{x:g}", classes, f"{y:.4g}") for name, x, classes, y in numbers]
    titles = ("training images of the class (logarithmic)", metric.label)
    log = bool(found["train_images"].min() > 0)
    drawn = drawing.lines(points, titles, list(board.indices), board.highlighted, log, reference)
    yield Chart(title, caption, ("method", "training images", "classes", "mean"), rows, drawn)


def _binned(scores: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return train count ``x``, mean value ``y`` and the names of the classes that had this count at some seed.

    Which classes are rare may differ between seeds. Neighbours of many counts are averaged.
    """
    scores = scores.astype({"train_images": float, "class": str})
    means = scores.groupby("train_images").agg(y=(column, "mean"), classes=("class", _named)).reset_index(names="x")
    if len(means) <= MOST_POINTS:
        return means
    part = np.concatenate([np.full(len(each), n) for n, each in enumerate(np.array_split(means["x"], MOST_POINTS))])
    binned = means.groupby(part).agg(x=("x", "mean"), y=("y", "mean"), size=("y", "size"))
    return binned.assign(classes=binned["size"].astype(str) + " counts").drop(columns="size")


def _named(classes: pd.Series[str]) -> str:
    names = sorted(set(classes))
    return ", ".join(names) if len(names) <= MOST_NAMES else f"{len(names)} classes"


def _pareto(board: Board, metric: Metric) -> Iterator[Chart]:
    """Yield a score over what it costs, with the methods that none beats in both."""
    import pandas as pd

    group = metric.rarest
    found = board.costs.assign(score=metric.means()).dropna(subset=["score", *COSTS])
    if found.empty:
        return
    parts = []
    for column, title in COSTS.items():
        part = pd.DataFrame({"series": found.index, "cost": title, "value": found[column], "score": found["score"]})
        front = pareto_front(list(zip(part["value"], part["score"], strict=True)), metric.direction == "lower")
        parts.append(part.assign(front=["yes" if number in front else "no" for number in range(len(part))]))
    points = pd.concat(parts, ignore_index=True)
    points["name"] = points["series"].map(board.names)
    caption = (
        f"Means over seeds; {BETTER[metric.direction]}, and so is a lower cost. No method beats those on the dashed "
        "front in both."
    )
    columns = ("method", "cost", "its value", f"{group} score", "on the front")
    numbers = points[["name", "cost", "value", "score", "front"]].itertuples(index=False, name=None)
    rows = [(name, cost, f"{value:,.6g}", f"{score:.4g}", front) for name, cost, value, score, front in numbers]
    drawn = drawing.against_costs(points, f"{metric.label}, {group}", list(board.indices), board.highlighted)
    yield Chart(f"{metric.label} of the {group} against its cost", caption, columns, rows, drawn)


def pareto_front(points: Sequence[tuple[float, float]], lower: bool) -> set[int]:
    """Return the numbers of the ``points`` (cost, score) that no other point dominates."""
    signed = [(cost, score if lower else -score) for cost, score in points]

    def beaten(mine: tuple[float, float], others: Iterable[tuple[float, float]]) -> bool:
        return any(other != mine and other[0] <= mine[0] and other[1] <= mine[1] for other in others)

    return {number for number, mine in enumerate(signed) if not beaten(mine, signed)}


def routing_charts(board: Board) -> Iterator[Chart]:
    """Yield charts of every partition into several clusters and of every use of experts, at the first seeds."""
    first = [(board.names[label], board.finished(label)[0]) for label in board.indices]
    partitions: dict[bytes, tuple[list[str], Run, Composition]] = {}
    for name, run in first:
        found = run.files.partition
        if found is not None and len(found.clusters) > 1:
            key = repr((found.classes, found.clusters)).encode() + found.counts.tobytes()
            partitions.setdefault(key, ([], run, found))[0].append(name)
    for names, run, found in partitions.values():
        yield _composition(", ".join(names), run, found)
    for name, run in first:
        if usage := list(_usage(run)):
            yield _expert_usage(name, run, usage)


def _composition(names: str, run: Run, found: Composition) -> Chart:
    import pandas as pd

    title, counts = f"Partition of {names}", found.counts
    caption = f"Training images of each class in each of {len(found.clusters)} clusters, seed {run.seed}."
    if counts.size > MOST_CELLS:
        caption += f" Only sums are shown: there are {counts.size:,} cells."
        totals = zip(found.clusters, counts.sum(0), (counts > 0).sum(0), strict=True)
        sums = [(name, f"{images:,}", f"{classes:,}") for name, images, classes in totals]
        return Chart(title, caption, ("cluster", "training images", "classes"), sums)
    rows = [(name, *map(str, each)) for name, each in zip(found.classes, counts, strict=True)]
    index = pd.MultiIndex.from_product([found.classes, found.clusters], names=["class", "cluster"])
    per_class = counts.sum(1, keepdims=True).clip(1)
    cells = pd.DataFrame({"count": counts.ravel(), "share": (counts / per_class).ravel()}, index).reset_index()
    return Chart(title, caption, ("class", *found.clusters), rows, drawing.shares(cells))


def _usage(run: Run) -> Iterator[tuple[float, Mapping[str, list[float]]]]:
    """Yield the step, and group → share of each expert; steps and groups without shares are left out."""
    for entry in run.record.diagnostics:
        step, usage = _numbers([entry.get("step")]), entry.get(USAGE)
        shares = {group: _numbers(each) for group, each in usage.items()} if isinstance(usage, dict) else {}
        if step and any(shares.values()):
            yield step[0], {group: each for group, each in shares.items() if each}


def _numbers(values: JsonValue) -> list[float]:
    """Return the numbers in a list that can be drawn."""
    listed = values if isinstance(values, list) else []
    return [float(each) for each in listed if isinstance(each, int | float) and abs(each) <= LARGEST]


def _expert_usage(name: str, run: Run, usage: list[tuple[float, Mapping[str, list[float]]]]) -> Chart:
    import pandas as pd

    points = pd.DataFrame(
        [
            (group, f"expert {number}", step, share)
            for step, shares in usage
            for group, each in shares.items()
            for number, share in enumerate(each, 1)
        ],
        columns=["group", "series", "x", "y"],
    )
    ends = points.groupby(["group", "series"], sort=False)["y"].agg(["first", "last"])
    rows = [(group, expert, f"{first:.3f}", f"{last:.3f}") for (group, expert), first, last in ends.itertuples()]
    caption = f"Share of each expert in the routing of each group's samples, seed {run.seed}."
    drawn = drawing.lines(
        points.assign(name=points["series"]), ("step", "share"), list(dict.fromkeys(points["series"]))
    )
    columns = ("group", "expert", "first share", "last share")
    return Chart(f"Use of the experts of {name}", caption, columns, rows, drawn)
