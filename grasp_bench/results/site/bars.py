"""Bars of every method in head, medium, tail and all classes, with intervals and the real reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from grasp_bench.results.site.boards import Metric
from grasp_bench.results.site.plots import series_class
from grasp_bench.results.site.svg import Scale, element, horizontal_axis, path, picture, spanning, text

ROW, TOP, BOTTOM, RIGHT, GAP = 22, 46, 44, 14, 26
PANEL = 215  # with its gap
LETTER = 7.7  # width of a letter of a method's name
LONGEST = 36  # letters of a name that are shown


def bars(title: str, description: str, metric: Metric, order: Sequence[str], indices: Mapping[str, int]) -> Markup:
    """Return one panel per group, with one row per method in ``order``; ``indices`` gives each method's colour."""
    left = 12 + LETTER * min(LONGEST, max(map(len, order)))
    width = left + PANEL * len(metric.groups)
    inner = (width - left - RIGHT - GAP * (len(metric.groups) - 1)) / len(metric.groups)
    bottom = TOP + ROW * len(order)
    drawn = metric.cells.dropna(subset="mean")
    cells: dict[Any, Any] = dict(zip(drawn.index, drawn.itertuples(), strict=True))
    values = [*drawn[["mean", "low", "high"]].stack().dropna(), *metric.references.values()]
    parts = [text(_cut(name), left - 10, TOP + ROW * row + 15, "name", "end") for row, name in enumerate(order)]
    for number, group in enumerate(metric.groups):
        start = left + number * (inner + GAP)
        scale = spanning(values, start, start + inner, from_zero=True)
        parts.append(horizontal_axis(scale, TOP, bottom, "", most=3))
        parts.append(text(group, start, TOP - 12, "panel"))
        parts += [
            _bar(name, group, cells[name, group], indices[name], scale, TOP + ROW * row)
            for row, name in enumerate(order)
            if (name, group) in cells
        ]
        if (reference := metric.references.get(group)) is not None:
            x = scale(reference)
            tells = element("title", f"real reference, {group}: {reference:.4g}")
            parts.append(element("g", tells, element("line", x1=x, x2=x, y1=TOP - 4, y2=bottom, class_="reference")))
    return picture(title, description, width, bottom + BOTTOM - 14, *parts)


def _bar(name: str, group: str, cell: Any, index: int, scale: Scale, top: float) -> Markup:
    zero, end, middle = scale(0), scale(cell.mean), top + ROW / 2
    tells = f"{name}, {group}: {cell.mean:.4g}"
    whisker = Markup("")
    if cell.low == cell.low:  # not NaN
        low, high = scale(cell.low), scale(cell.high)
        tells += f" ({cell.low:.4g} to {cell.high:.4g})"
        ends = [
            (low, middle - 4),
            (low, middle + 4),
            (low, middle),
            (high, middle),
            (high, middle - 4),
            (high, middle + 4),
        ]
        whisker = path(ends, class_="whisker")
    bar = element("rect", x=min(zero, end), y=top + 4, width=abs(end - zero), height=ROW - 8, class_="bar")
    return element("g", element("title", tells), bar, whisker, class_=series_class(index), data_method=name)


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
