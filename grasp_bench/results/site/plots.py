"""Lines and points of several methods, in panels side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from grasp_bench.results.site.svg import (
    COLOURS,
    Scale,
    element,
    horizontal_axis,
    path,
    picture,
    spanning,
    text,
    vertical_axis,
)

TOP, BOTTOM, LEFT, RIGHT = 46, 44, 62, 16
GAP = 26  # between panels


@dataclass(frozen=True)
class Point:
    """A point and its tooltip."""

    x: float
    y: float
    tells: str


@dataclass(frozen=True)
class Series:
    """The points of one method in one panel."""

    name: str
    index: int
    """Number of the method: it decides on the colour, and beyond the last colour on dashes and shape."""
    points: tuple[Point, ...]
    joined: bool = True
    label: str = ""
    """Written beside the last point."""


@dataclass(frozen=True)
class Panel:
    """One plot."""

    title: str
    x_title: str
    series: tuple[Series, ...]
    log_x: bool = False
    reference: tuple[tuple[float, float], ...] = ()
    """Points of a dashed line that is not a method's: the real reference, or a Pareto front."""


def plots(
    title: str, description: str, y_title: str, panels: Sequence[Panel], width: float = 920, height: float = 340
) -> Markup:
    """Return panels that share their vertical axis."""
    inner = (width - LEFT - RIGHT - GAP * (len(panels) - 1)) / len(panels)
    heights = [point.y for panel in panels for series in panel.series for point in series.points]
    heights += [y for panel in panels for _, y in panel.reference]
    vertical = spanning(heights, height - BOTTOM, TOP)
    parts = []
    for number, panel in enumerate(panels):
        left = LEFT + number * (inner + GAP)
        widths = [point.x for series in panel.series for point in series.points] + [x for x, _ in panel.reference]
        horizontal = spanning(widths, left, left + inner, log=panel.log_x and min(widths) > 0)
        parts.append(vertical_axis(vertical, left, left + inner, named=number == 0))
        parts.append(horizontal_axis(horizontal, TOP, height - BOTTOM, panel.x_title, max(3, int(inner / 55))))
        parts.append(text(panel.title, left, TOP - 12, "panel"))
        if panel.reference:
            points = [(horizontal(x), vertical(y)) for x, y in panel.reference]
            parts.append(path(points, class_="reference"))
        parts += [_drawn(series, horizontal, vertical) for series in panel.series]
    return picture(title, description, width, height, text(y_title, 4, 14, "axis"), *parts)


def _drawn(series: Series, horizontal: Scale, vertical: Scale) -> Markup:
    points = [(horizontal(point.x), vertical(point.y)) for point in series.points]
    parts = [path(points, class_="line")] if series.joined and len(points) > 1 else []
    size = 3.0 if series.joined else 5.5
    parts += [
        element("g", element("title", point.tells), _mark(series.index, x, y, size), class_="point")
        for point, (x, y) in zip(series.points, points, strict=True)
    ]
    if series.label:
        x, y = points[-1]
        beyond = x > (horizontal.start + 2 * horizontal.end) / 3
        parts.append(text(series.label, x - 9 if beyond else x + 9, y - 7, "label", "end" if beyond else "start"))
    return element("g", *parts, class_=series_class(series.index), data_method=series.name)


def swatch(index: int) -> Markup:
    """Return the mark of a method in its colour, as shown beside the method's name."""
    mark = _mark(index, 0, 0, 1)
    return element("svg", mark, class_=f"swatch s{index % COLOURS}", viewBox="-1.6 -1.6 3.2 3.2", aria_hidden="true")


def series_class(index: int) -> str:
    """Return the CSS classes of a method, for its colour and its dashes."""
    return f"series s{index % COLOURS} d{index // COLOURS % 4}"


CORNERS: tuple[tuple[tuple[float, float], ...], ...] = (
    ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    ((0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)),
    ((0, -1.3), (1.3, 1), (-1.3, 1)),
)


def _mark(index: int, x: float, y: float, size: float) -> Markup:
    """Return a circle, square, diamond or triangle: methods of one colour differ in shape."""
    shape = index // COLOURS % (len(CORNERS) + 1)
    if shape == 0:
        return element("circle", cx=x, cy=y, r=size)
    corners = CORNERS[shape - 1]
    return path([(x + size * dx, y + size * dy) for dx, dy in (*corners, corners[0])])
