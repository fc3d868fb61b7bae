"""Text that others wrote, made harmless before it is shown, and shown as it is written."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the start of a formula."""
MARKDOWN = "\\|*_<>`[]&"
"""Signs that could end a cell, start a link or a tag, or change the type."""
ADDRESS = re.compile(r"https?://(?:[A-Za-z0-9./?=%#:-]|\\_)+")
"""An address after it was escaped, that holds no sign which could steer markdown but the underscore."""
PAIRED = "~$"
"""Signs that do so only in pairs: one tilde stands in the label of every method with changed settings."""
SHOWN = 10
"""Names in one message."""


def printable(text: str, also: str = "") -> str:
    r"""Return text that cannot steer a terminal: every character that is not printable, or in ``also``, as \uXXXX."""
    if text.isprintable() and not also:
        return text
    return "".join(each if each.isprintable() and each not in also else f"\\u{ord(each):04x}" for each in text)


def printable_lines(text: str) -> str:
    """Text in which line breaks alone are not escaped."""
    return text if text.isprintable() else "\n".join(map(printable, text.split("\n")))


def printable_json(text: str) -> str:
    """JSON of the same value in which line breaks alone are not printable."""
    return "".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text)


def counted(number: int, noun: str) -> str:
    """Return how many there are of something, such as ``1 run`` and ``1,000 runs``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def some(names: Iterable[str]) -> str:
    """Return the first ten names and how many more there are."""
    listed = list(names)
    rest = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + rest


def markdown_escaped(text: str) -> str:
    """Text that markdown shows as it is, on one line and within one cell."""
    special = MARKDOWN + "".join(each for each in PAIRED if text.count(each) > 1)
    return "".join(f"\\{each}" if each in special else each for each in printable(text))


def markdown_source(text: str) -> str:
    """Text as :func:`markdown_escaped` has it, in which plain addresses stay whole."""
    return ADDRESS.sub(lambda found: found[0].replace("\\_", "_"), markdown_escaped(text))


def markdown_code(text: str) -> str:
    """Text as code in a line of markdown, between more backticks than it has in a row."""
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{pad}{printable(text)}{pad}{ticks}"


def to_cell(text: str) -> str:
    """Text for a cell of CSV: an apostrophe goes before what a spreadsheet would take for a formula."""
    return f"'{text}" if _needs_apostrophe(text) else text


def from_cell(cell: str) -> str:
    """The text that :func:`to_cell` was given."""
    return cell[1:] if cell.startswith("'") and _needs_apostrophe(cell) else cell


def _needs_apostrophe(text: str) -> bool:
    """Whether text is a formula, or one behind apostrophes, from which an escaped one could not be told otherwise."""
    return text.lstrip("'").startswith(FORMULA)


@contextlib.contextmanager
def drawn_literally() -> Iterator[None]:
    """Let matplotlib draw text inside the block as it is written; it takes ``$...$`` for a formula otherwise."""
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}):
        yield
