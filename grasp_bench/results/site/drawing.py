"""Charts by Altair: plain functions of a DataFrame. Colours are the style sheet's, so that they follow its theme.

A frame's ``series`` is the key of a method, ``name`` what is shown of it. Names, groups and classes are data of a
chart, never part of an expression.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

COLOURS = 8
"""Number of colours of series; the style sheet has one for each."""
SHAPES = {"circle": "●", "square": "■", "diamond": "◆", "triangle-up": "▲"}
"""Shapes of points, which tell methods of one colour from each other, and how they are written."""
DASHES = ([1, 0], [6, 3], [2, 3], [8, 3, 2, 3])
QUIET, INK, RULE = "var(--quiet)", "var(--ink)", "var(--rule)"
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif'


@functools.cache
def library() -> str:
    """Return the JavaScript of Vega, Vega-Lite and Vega-Embed, for a script element."""
    import vl_convert

    return re.sub(
        "<(?=/script|!--)", r"\\x3c", vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed"), flags=re.IGNORECASE
    )


def swatch(index: int) -> Markup:
    """Return the mark of a method in its colour, as shown beside the method's name."""
    mark = [*SHAPES.values()][index // COLOURS % len(SHAPES)]
    return Markup('<span class="swatch s{}" data-mark="{}" aria-hidden="true"></span>').format(index % COLOURS, mark)


def specification(chart: alt.TopLevelMixin, description: str) -> dict[str, Any]:
    """Return the Vega-Lite specification of a chart with all of its data."""
    import altair as alt

    with alt.data_transformers.enable("default", max_rows=None):
        found: dict[str, Any] = chart.to_dict()
    text = {"labelColor": QUIET, "titleColor": QUIET, "labelLimit": 0, "titleLimit": 0, "titleFontWeight": "normal"}
    found["config"] = {
        "background": "transparent",
        "font": FONT,
        "axis": {
            **text,
            "labelOverlap": "greedy",
            "labelSeparation": 8,
            "gridColor": RULE,
            "domainColor": RULE,
            "tickColor": RULE,
        },
        "header": {**text, "labelColor": INK, "labelFontWeight": "bold"},
        "legend": {**text, "orient": "bottom", "columns": 4, "symbolLimit": 0},
        "view": {"stroke": None},
    }
    return found | {"description": description}


def points(
    found: pd.DataFrame,
    titles: tuple[str, str],
    series: Sequence[str],
    shown: Sequence[str],
    reference: tuple[float, float] | None,
) -> alt.TopLevelMixin:
    """Return ``y`` against ``x``, a point for each series, and a cross for the ``reference``."""
    import altair as alt
    import pandas as pd

    axis = alt.Axis(tickCount=6)
    axes = (
        alt.X("x:Q", title=titles[0], scale=alt.Scale(zero=False, padding=14), axis=axis),
        alt.Y("y:Q", title=titles[1], scale=alt.Scale(zero=False, padding=14), axis=axis),
    )
    told = _told(found, name="method", x=titles[0], y=titles[1])
    shape = _by_number(alt.Shape, series, shown, [*SHAPES])
    marks = alt.Chart(found).mark_point(filled=True, size=110, opacity=1)
    drawn: list[Any] = [marks.encode(*axes, color=_colour(series, shown), shape=shape, tooltip=told)]
    if reference:
        cross = pd.DataFrame([{"name": "real reference", "x": reference[0], "y": reference[1]}])
        stroke = alt.Chart(cross).mark_point(shape="cross", size=120, color=INK, filled=True, opacity=1)
        drawn.append(stroke.encode(*axes, tooltip=_told(cross, name="method", x=titles[0], y=titles[1])))
    chart: alt.TopLevelMixin = _wide(alt.layer(*drawn)).add_params(_shown(shown))
    return chart


def _wide(chart: Any) -> Any:
    """Return the chart as wide as the page has room for."""
    return chart.properties(width="container", height=300)


def lines(
    points: pd.DataFrame,
    titles: tuple[str, str],
    series: Sequence[str],
    shown: Sequence[str] | None = None,
    log_x: bool = False,
    reference: pd.DataFrame | None = None,
) -> alt.TopLevelMixin:
    """Return ``y`` over ``x`` of each series, in a panel for each ``group`` where there are groups.

    ``titles`` are those of both axes; ``reference`` is a dashed line. Without ``shown``, series are chosen in a legend.
    """
    import altair as alt

    groups = list(dict.fromkeys(points["group"])) if "group" in points else []
    axes = (
        alt.X("x:Q", title=titles[0], scale=alt.Scale(type="log" if log_x else "linear", nice=False, padding=12)),
        alt.Y("y:Q", title=titles[1], scale=alt.Scale(zero=False)),
    )
    told = _told(
        points,
        name="method" if shown is not None else "series",
        group="group",
        classes="class",
        x=titles[0],
        y=titles[1],
    )
    shape = _by_number(alt.Shape, series, shown, [*SHAPES])
    base = alt.Chart(points).encode(*axes, color=_colour(series, shown))
    drawn = [
        base.mark_line(strokeWidth=2).encode(strokeDash=_by_number(alt.StrokeDash, series, shown, DASHES)),
        base.mark_point(filled=True, size=30, opacity=1).encode(shape=shape, tooltip=told),
    ]
    if reference is not None and len(reference):
        dashed = alt.Chart(reference).mark_line(color=QUIET, strokeDash=[5, 4], strokeWidth=1.5)
        drawn.append(dashed.encode(*axes))
    chart: Any = _wide(alt.layer(*drawn))
    if groups:
        panel = alt.layer(*drawn).properties(width=max(180, 800 // len(groups) - 20), height=280)
        chart = panel.facet(column=alt.Column("group:N", sort=groups, title=None))
    found: alt.TopLevelMixin = chart.add_params(_shown(shown) if shown is not None else _legend())
    return found


def against_costs(points: pd.DataFrame, y_title: str, series: Sequence[str], shown: Sequence[str]) -> alt.TopLevelMixin:
    """Return ``score`` over each ``cost``'s ``value`` side by side, with a staircase through the ``front``."""
    import altair as alt

    panels: list[Any] = []
    for title, found in points.groupby("cost", sort=False):
        log = found["value"].max() > 5 * found["value"].min() > 0
        scale = alt.Scale(type="log", padding=15) if log else alt.Scale(zero=False, padding=15)
        axes = (
            alt.X("value:Q", title=str(title), scale=scale, axis=alt.Axis(format="~s", tickCount=4)),
            alt.Y("score:Q", title=None if panels else y_title, scale=alt.Scale(zero=False, padding=12)),
        )
        told = _told(found, name="method", value=str(title), score=y_title, front="on the front")
        stairs = alt.Chart(found[found["front"] == "yes"]).mark_line(
            color=QUIET, strokeDash=[5, 4], interpolate="step-after"
        )
        marks = alt.Chart(found).mark_point(filled=True, size=90, opacity=1)
        shape = _by_number(alt.Shape, series, shown, [*SHAPES])
        drawn = [stairs.encode(*axes), marks.encode(*axes, color=_colour(series, shown), shape=shape, tooltip=told)]
        panels.append(alt.layer(*drawn).properties(width=230, height=280))
    chart: alt.HConcatChart = alt.hconcat(*panels).resolve_scale(y="shared").add_params(_shown(shown))
    return chart


def shares(cells: pd.DataFrame) -> alt.TopLevelMixin:
    """Return a table of ``count`` in each ``class`` and ``cluster``, shaded by the ``share`` of its class."""
    import altair as alt

    columns, rows = (list(dict.fromkeys(cells[column])) for column in ("cluster", "class"))
    base = alt.Chart(cells).encode(
        alt.X("cluster:N", sort=columns, title="cluster", axis=alt.Axis(orient="top", labelAngle=-30, grid=False)),
        alt.Y("class:N", sort=rows, title=None, axis=alt.Axis(grid=False)),
        tooltip=_told(cells, **{"class": "class", "cluster": "cluster", "count": "training images"}),
    )
    shade = alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0.05, 0.75]), legend=None)
    drawn = base.mark_rect(color="var(--accent)").encode(shade) + base.mark_text(color=INK).encode(text="count:Q")
    chart: alt.LayerChart = drawn.properties(width=alt.Step(56), height=alt.Step(22))
    return chart


def _told(frame: pd.DataFrame, **titles: str) -> list[alt.Tooltip]:
    """Return the tooltip: those columns of the frame that it has, by their titles."""
    import altair as alt

    number = {"format": ",.4~g"}
    return [
        alt.Tooltip(column, type="quantitative", title=title, **number)  # type: ignore[arg-type]
        if frame[column].dtype.kind in "if"
        else alt.Tooltip(column, type="nominal", title=title)
        for column, title in titles.items()
        if column in frame
    ]


def _shown(series: Sequence[str]) -> alt.Parameter:
    """Return the parameter that the page sets to the series in colour."""
    import altair as alt

    return alt.param(name="shown", value=list(series))


def _legend() -> alt.Parameter:
    import altair as alt

    return alt.selection_point(name="kept", fields=["series"], bind="legend")


def _by_number(channel: Any, series: Sequence[str], shown: Sequence[str] | None, values: Sequence[Any]) -> Any:
    """Return a channel whose value changes where the colours of series begin again."""
    import altair as alt

    chosen = [values[number // COLOURS % len(values)] for number in range(len(series))]
    legend = alt.Legend() if shown is None else None
    return channel("series:N", scale=alt.Scale(domain=list(series), range=chosen), title=None, legend=legend)


def _colour(series: Sequence[str], shown: Sequence[str] | None) -> Any:
    """Return the colour of each series; those that are not shown, or not chosen in the legend, are muted."""
    import altair as alt

    scale = alt.Scale(domain=list(series), range=[f"var(--s{number % COLOURS})" for number in range(len(series))])
    colour = alt.Color("series:N", scale=scale, title=None, legend=alt.Legend() if shown is None else None)
    chosen = _legend() if shown is None else "indexof(shown, datum.series) >= 0"
    return alt.condition(chosen, colour, alt.value("var(--muted)"))
