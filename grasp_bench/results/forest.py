"""The forest plot: differences to a baseline with their intervals, for the page and as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grasp_bench.errors import UserError
from grasp_bench.results.board import COLUMN
from grasp_bench.results.summary import main_columns
from grasp_bench.results.tables import Report, heading_of

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

LONGEST = 220
"""Pixels of a name; on the page the tooltip and the table have all of a longer one."""
PAGE = ("var(--accent)", "var(--quiet)", "var(--ink)")
"""Colours by the style sheet of the page: of what stands, of what does not, and of the line at 0."""
PAPER = ("#00796b", "#6a737d", "#24292f")
"""Colours of the same three on white paper."""
ROW, WIDTH = 22, 620
SVG = "<!-- written by grasp-bench report -->"
"""First line of a picture."""


def forest(rows: pd.DataFrame | None = None, colours: tuple[str, str, str] = PAGE) -> alt.TopLevelMixin:
    """Return differences to a baseline with their intervals, a row each; without ``rows`` the page puts them in.

    A row has ``place``, by which they are ordered, ``name``, ``difference``, ``low``, ``high`` and ``stands``: whether
    the interval leaves out 0.
    """
    import altair as alt

    chart = alt.Chart(alt.NamedData("rows") if rows is None else rows)
    order = alt.EncodingSortField("place", op="min")
    axis = alt.Axis(grid=False, domain=False, ticks=False, labelLimit=LONGEST)
    y = alt.Y("name:N", sort=order, title=None, axis=axis)
    x = alt.X("difference:Q", title=None, axis=alt.Axis(tickCount=5, orient="top"))
    colour = alt.condition("datum.stands", alt.value(colours[0]), alt.value(colours[1]))
    told = [
        alt.Tooltip("name:N", title="method"),
        *(alt.Tooltip(f"{name}:Q", format=",.3~g") for name in ("difference", "low", "high")),
    ]
    zero = alt.Chart().mark_rule(color=colours[2]).encode(x=alt.datum(0))
    whiskers = chart.mark_rule(strokeWidth=2).encode(y, alt.X("low:Q", title=None), alt.X2("high:Q"), color=colour)
    marks = chart.mark_point(filled=True, size=70, opacity=1).encode(y, x, color=colour, tooltip=told)
    drawn: Any = alt.layer(whiskers, marks, zero).properties(width="container")
    found: alt.TopLevelMixin = drawn
    return found


def forest_svg(report: Report) -> str:
    """Return the forest plot of the first leaderboard's first column as SVG, on white.

    Raises :class:`UserError` where nothing can be drawn.
    """
    import altair as alt
    import vl_convert

    for board, compared in zip(report.leaderboards, report.differences, strict=True):
        columns = main_columns(board)
        if compared is None or not columns:
            continue
        found = compared.found.merge(columns[0][[*COLUMN, "label"]].astype(str), on=[*COLUMN, "label"])
        found = found.dropna(subset="difference_low").reset_index(drop=True)
        if len(found):
            break
    else:
        raise UserError(
            "--format svg: there is no difference to draw. Name a --baseline that has at least three seeds in common "
            "with another row."
        )
    names, percent = board.row_names(), found["scale"].iloc[0] == "log"
    scale = 100 if percent else 1
    rows = found[["difference"]].assign(
        low=found["difference_low"], high=found["difference_high"], place=found.index, name=found["label"].map(names)
    )
    for name in ("difference", "low", "high"):
        rows[name] = [float(f"{scale * each:.3g}") for each in rows[name]]
    rows["stands"] = (rows["low"] > 0) | (rows["high"] < 0)
    better = "left" if found["direction"].iloc[0] == "lower" else "right"
    simultaneous = "that hold for all rows together" if found["primary"].iloc[0] else "of each difference alone"
    title = alt.TitleParams(
        f"{found['title'].iloc[0]}, {found['group'].iloc[0]}: difference to {names[compared.baseline]}"
        + " in percent" * percent,
        subtitle=[
            f"{better} is better; 95 % intervals {simultaneous}; coloured: the interval leaves out 0",
            f"{heading_of(board)} · rules {board.rules}",
        ],
        anchor="start",
        frame="bounds",
        offset=12,
        subtitleColor=PAPER[1],
    )
    drawn: Any = forest(rows, PAPER)
    drawn = drawn.properties(width=WIDTH, height=ROW * len(rows), title=title, background="white", padding=12)
    drawn = drawn.configure_view(stroke=None).configure_axis(labelColor=PAPER[2], gridColor="#e1e4e8")
    return f"{SVG}\n{vl_convert.vegalite_to_svg(drawn.to_json())}\n"
