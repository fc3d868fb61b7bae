"""Routing of samples: the classes in each cluster of a partition, and the use of experts over time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from markupsafe import Markup
from pydantic import JsonValue

from grasp_bench.results.site.boards import Board, Run
from grasp_bench.results.site.charts import Chart
from grasp_bench.results.site.folder import Composition
from grasp_bench.results.site.plots import Panel, Point, Series, plots
from grasp_bench.results.site.svg import element, picture, text

USAGE = "expert_usage"
CELL, ROW, TOP = 54, 22, 58
LETTER = 7.2
MOST_CELLS = 1500  # of a partition that is drawn; a larger one becomes a table of sums
SHADES = 6
LARGEST = 2**53  # of a step or a share: a record may hold any number, and infinity


def routing_charts(board: Board) -> Iterator[Chart]:
    """Yield charts of every partition into several clusters and of every use of experts, at the first seeds."""
    first = [(label, board.finished(label)[0]) for label in board.indices]
    partitions: dict[bytes, tuple[list[str], Run, Composition]] = {}
    for label, run in first:
        found = run.files.partition
        if found is not None and len(found.clusters) > 1:
            key = repr((found.classes, found.clusters)).encode() + found.counts.tobytes()
            partitions.setdefault(key, ([], run, found))[0].append(label)
    for labels, run, found in partitions.values():
        yield _composition(", ".join(labels), run, found)
    for label, run in first:
        if usage := list(_usage(run)):
            yield _expert_usage(label, run, usage)


def _composition(label: str, run: Run, found: Composition) -> Chart:
    title = f"Partition of {label}"
    caption = f"Training images of each class in each of {len(found.clusters)} clusters, seed {run.seed}."
    if found.counts.size > MOST_CELLS:
        caption += f" Only sums are shown: there are {found.counts.size:,} cells."
        totals = zip(found.clusters, found.counts.sum(0), (found.counts > 0).sum(0), strict=True)
        sums = [(name, f"{images:,}", f"{classes:,}") for name, images, classes in totals]
        return Chart(title, caption, Markup(""), ("cluster", "training images", "classes"), sums)
    left = 12 + LETTER * max(map(len, found.classes))
    shares = found.counts / found.counts.sum(1, keepdims=True).clip(1)
    parts = [
        text(name if len(name) <= 8 else f"{name[:7]}…", left + CELL * (column + 0.5), TOP - 8, "tick", "middle")
        for column, name in enumerate(found.clusters)
    ]
    for row, name in enumerate(found.classes):
        parts.append(text(name, left - 8, TOP + ROW * row + 15, "name", "end"))
        for column in range(len(found.clusters)):
            count, place = int(found.counts[row, column]), {"x": left + CELL * column, "y": TOP + ROW * row}
            shade = round(shares[row, column] * SHADES)
            tells = element("title", f"{name} in {found.clusters[column]}: {count}")
            cell = element("rect", width=CELL - 2, height=ROW - 2, rx=3, class_=f"shade{shade}", **place)
            number = text(str(count), place["x"] + CELL / 2 - 1, place["y"] + 15, "count", "middle") if count else ""
            parts.append(element("g", tells, cell, number))
    width, height = left + CELL * len(found.clusters) + 12, TOP + ROW * len(found.classes) + 8
    drawn = picture(title, caption, width, height, text("cluster", left, 18, "axis"), *parts)
    rows = [(name, *map(str, counts)) for name, counts in zip(found.classes, found.counts, strict=True)]
    return Chart(title, caption, drawn, ("class", *found.clusters), rows)


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


def _expert_usage(label: str, run: Run, usage: list[tuple[float, Mapping[str, list[float]]]]) -> Chart:
    groups = list(dict.fromkeys(group for _, shares in usage for group in shares))
    panels, rows = [], []
    for group in groups:
        seen = [(step, shares[group]) for step, shares in usage if shares.get(group)]
        experts = min((len(shares) for _, shares in seen), default=0)
        series = []
        for expert in range(experts):
            name = f"expert {expert + 1}"
            points = tuple(Point(x, y[expert], f"{name}, {group}, step {x:g}: {y[expert]:.3f}") for x, y in seen)
            series.append(Series(name, expert, points, label=str(expert + 1) if group == groups[-1] else ""))
            rows.append((group, name, f"{points[0].y:.3f}", f"{points[-1].y:.3f}"))
        if series:
            panels.append(Panel(group, "step", tuple(series)))
    title = f"Use of the experts of {label}"
    caption = f"Share of each expert in the routing of each group's samples, seed {run.seed}; experts are numbered."
    columns = ("group", "expert", "first share", "last share")
    return Chart(title, caption, plots(title, caption, "share", panels, height=260), columns, rows)
