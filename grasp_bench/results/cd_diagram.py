"""The critical-difference diagram.

Demšar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 2006, figure 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from xml.sax.saxutils import escape

from grasp_bench.io import digest
from grasp_bench.stats.ranks import cliques

UNPRINTABLE = re.compile("[^ -~\u00a0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# All in pixels of the drawing.
AXIS_WIDTH = 420
TICK_GAP = 28  # the axis grows before its ticks come closer
AXIS_Y = 66
ROW = 22
CHARACTER = 8  # no letter of the sans-serif fonts is wider at 13 pixels, but for a few capitals
MARGIN = 12


def cd_diagram_svg(mean_ranks: Mapping[str, float], cd: float) -> str:
    """Return mean ranks on a line, the best at the right, with a bar over each group that lies within ``cd``.

    An <svg> element that needs nothing else: it takes the colour of the text around it, its names are escaped, and its
    description says in words what it shows. Raises ValueError for fewer than two methods, a rank outside [1, their
    number], and a ``cd`` that is not positive.
    """
    count = len(mean_ranks)
    if count < 2 or not all(1 <= rank <= count for rank in mean_ranks.values()):
        raise ValueError(f"expected two or more methods with mean ranks in [1, methods], got {dict(mean_ranks)!r}")
    if not (math.isfinite(cd) and cd > 0):
        raise ValueError(f"cd: expected a positive number, got {cd}")
    groups = cliques(mean_ranks, cd)
    names = sorted(mean_ranks, key=lambda name: (mean_ranks[name], name))
    unit = max(AXIS_WIDTH, TICK_GAP * (count - 1)) / max(count - 1, cd)  # pixels a rank
    side = CHARACTER * (max(map(len, names)) + 7) + 2 * MARGIN  # a name and its rank
    x = {name: side + (count - mean_ranks[name]) * unit for name in names}
    first_row = AXIS_Y + 26 + 8 * len(groups)
    width, height = 2 * side + max(count - 1, cd) * unit, first_row + ROW * ((count + 1) // 2 - 1) + MARGIN
    parts = [*_ruler(side, cd, unit), *_axis(side, count, unit)]
    for row, group in enumerate(groups):
        y = AXIS_Y + 12 + 8 * row
        parts.append(_line(x[group[-1]] - 4, y, x[group[0]] + 4, y, 'stroke-width="4"'))
    right = (count + 1) // 2
    for row, name in enumerate(names[:right]):
        parts += _label(
            f"{mean_ranks[name]:.2f}\u2002{name}", x[name], first_row + ROW * row, width - side + MARGIN, "start"
        )
    for row, name in enumerate(reversed(names[right:])):
        parts += _label(f"{name}\u2002{mean_ranks[name]:.2f}", x[name], first_row + ROW * row, side - MARGIN, "end")
    return _document(width, height, _described(names, mean_ranks, cd, groups), parts)


def _ruler(left: float, cd: float, unit: float) -> list[str]:
    """Return a ruler above the axis, as long as the critical difference."""
    right, y = left + cd * unit, 24
    ends = [_line(end, y - 4, end, y + 4) for end in (left, right)]
    return [_line(left, y, right, y), *ends, _text((left + right) / 2, y - 8, f"CD = {cd:.2f}", "middle")]


def _axis(left: float, count: int, unit: float) -> list[str]:
    """Return the axis of ranks, from ``count`` at the left to 1 at the right."""
    parts = [_line(left, AXIS_Y, left + (count - 1) * unit, AXIS_Y)]
    for rank in range(1, count + 1):
        tick = left + (count - rank) * unit
        parts += [_line(tick, AXIS_Y - 6, tick, AXIS_Y), _text(tick, AXIS_Y - 11, str(rank), "middle")]
    return parts


def _label(text: str, x: float, y: float, end: float, anchor: str) -> list[str]:
    """Return a line from the axis down to the row and out to the method's name at ``end``."""
    gap = 6 if anchor == "start" else -6
    path = f'<path d="M{x:.1f} {AXIS_Y}V{y:.1f}H{end:.1f}"/>'
    return [path, _text(end + gap, y + 4.5, text, anchor)]


def _described(names: list[str], mean_ranks: Mapping[str, float], cd: float, groups: list[tuple[str, ...]]) -> str:
    ranks = ", ".join(f"{name} {mean_ranks[name]:.2f}" for name in names)
    alike = "; ".join(", ".join(group) for group in groups)
    found = f"Not significantly different: {alike}." if groups else "All differ significantly."
    return f"Mean ranks, best first: {ranks}. Critical difference: {cd:.2f}. {found}"


def _document(width: float, height: float, description: str, parts: list[str]) -> str:
    description = _escaped(description)
    key = digest(description)[:12]  # ids are shared by all of a page
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
            f'height="{height:.0f}" role="img" aria-labelledby="cd-title-{key} cd-desc-{key}">',
            f'<title id="cd-title-{key}">Critical-difference diagram</title>',
            f'<desc id="cd-desc-{key}">{description}</desc>',
            '<g fill="none" stroke="currentColor" stroke-width="1.2" font-family="system-ui, sans-serif" '
            'font-size="13">',
            *parts,
            "</g>",
            "</svg>\n",
        ]
    )


def _line(x1: float, y1: float, x2: float, y2: float, style: str = "") -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"{style and " " + style}/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} fill="currentColor" stroke="none">{_escaped(text)}</text>'


def _escaped(text: str) -> str:
    """Return ``text`` for XML, which cannot hold control characters and lone surrogates even when they are escaped."""
    return escape(UNPRINTABLE.sub("\ufffd", text))
