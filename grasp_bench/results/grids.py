"""What printed tables consist of: sections, grids and cells as text, whatever the format."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

ABSENT = "-"
MINUS = "\N{MINUS SIGN}"
REFERENCE = "real reference"
EXCESS = "excess"
BESIDE = (REFERENCE, EXCESS)
"""Headings of columns that belong to the score of the nearest column before them."""


class Text(NamedTuple):
    """A cell of a printed table."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Grid:
    """A table ready to print: the first ``names`` columns are words, the others are numbers."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[Text]]
    names: int = 1
    caption: str = ""
    """What a table that stands alone has to say besides its title."""


class Finding(NamedTuple):
    """One thing that a report says, and how well it is shown."""

    tag: str
    text: str


@dataclass(frozen=True)
class Section:
    """Tables under a heading, and what a reader must know of them."""

    heading: str
    grids: list[Grid]
    notes: list[str]
    findings: list[Finding] = field(default_factory=list)
    command: str = ""
    """Command that prints the findings."""


def decimals(values: Iterable[float]) -> int:
    """Return the decimals that suit the largest of ``values``; NaN counts for nothing."""
    largest = max((abs(value) for value in values if value == value), default=0.0)
    return 1 if largest >= 100 else 2 if largest >= 10 else 3


def number_text(value: float, digits: int, sign: str = "") -> str:
    """Return the value with so many decimals, alike on every processor.

    Sums that are taken in another order differ in their last bits. These would otherwise decide how a value is printed
    that lies halfway between two printed ones, as means of shares of a few images do; so it is first rounded to ten
    significant digits. ``sign`` is that of a format, such as "+".
    """
    return f"{float(f'{value:.10g}'):{sign}.{digits}f}"


def half_text(low: float, high: float, digits: int) -> str:
    """Return half the interval behind ±, or nothing where there is none."""
    return "" if low != low else f"± {number_text((high - low) / 2, digits)}"


def cost_text(value: float, declared: float | None, form: str) -> str:
    """Return a cost as it was measured, or else as it was declared, which it says."""
    if value == value:
        return format(value, form)
    return ABSENT if declared is None else f"{format(declared, form)} declared"


def mean_text(cell: Any, digits: int) -> str:
    """Return a cell's mean with half its interval, or that there were too few images."""
    if cell["mean"] != cell["mean"]:
        return f"n too small (n={cell['n']})"
    return f"{number_text(cell['mean'], digits)} {half_text(cell['low'], cell['high'], digits)}".rstrip()


def difference_text(found: Any, places: int) -> str:
    """Return the difference with its interval: in percent where it is a ratio, whose interval is not symmetrical."""
    difference, low, high = (found[name] for name in ("difference", "difference_low", "difference_high"))
    if found["scale"] == "log":
        percent, lowest, highest = (number_text(100 * each, 0, "+") for each in (difference, low, high))
        said = f"{percent} %" + (f" ({lowest} to {highest})" if low == low else "")
    else:
        said = f"{number_text(difference, places, '+z')} {half_text(low, high, places)}".rstrip()
    return said.replace("-", MINUS)


def p_text(p: float) -> str:
    """Return a p-value, or that it is very small."""
    if p != p:
        return ABSENT
    return "< 0.0001" if p < 1e-4 else number_text(p, 4)


def plain(*words: object) -> list[Text]:
    """Return words as cells."""
    return [Text(str(word)) for word in words]
