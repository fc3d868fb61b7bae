"""Tables on a screen: no number is cut and no name is left out, however narrow the screen is.

Text is folded first, between words and after hyphens; a table that is still too wide is split, with its names in every
part; where not even a name and a number fit beside each other, every row becomes a list of what its columns say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len

from grasp_bench.text import printable, printable_lines

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

STYLES = {"bold": "\x1b[1m", "dim": "\x1b[2m", "red": "\x1b[31m", "green": "\x1b[32m", "yellow": "\x1b[33m"}
PLAIN = "\x1b[0m"
GAP = "  "
RULE = "─"
NARROWEST = 8
"""Columns of a screen that a name keeps, however many numbers stand beside it."""
LONGEST = 24
"""Columns of a word that is kept whole; longer ones are hashes, paths and the like."""
HYPHEN = re.compile(r"(?<=[^\W\d_]-)(?=[^\W\d_])")
"""Where a name may be broken: after a hyphen between letters."""
WITHIN = re.compile(r"(?<=[=,;:/_])(?<!\d[,:])(?=\S)")
"""Where a word may be broken that has no hyphen and is too long."""
ATOM = re.compile(r"[-+\N{MINUS SIGN}]?\d[\d.,]*(?:[eE][-+]?\d+)?%?|.")
"""A number, or any other sign."""


class Cell(NamedTuple):
    """A text, and one of :data:`STYLES` or none."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Sheet:
    """A table; rich prints it as wide as its console allows."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    right: frozenset[int] = frozenset()
    """Positions of columns of numbers, which are never folded."""
    keys: int = 1
    """Number of the first columns that say what a row is, and are repeated in each part of a table that is split."""
    caption: str = ""
    """What stands below the table."""
    beside: frozenset[int] = frozenset()
    """Positions of columns that say something only with the nearest other column before them, which is repeated where
    a table is split between them."""

    def lines(self, width: int, styled: bool = False) -> list[str]:
        """The table in lines of at most ``width`` columns, with a terminal's signs for styles where ``styled``."""
        texts = [[printable_lines(each[0] if isinstance(each, Cell) else each) for each in row] for row in self.rows]
        styles = [[each[1] if isinstance(each, Cell) else "" for each in row] for row in self.rows] if styled else None
        heads = [_head(printable(name), number in self.right) for number, name in enumerate(self.columns)]
        widest = [
            max(map(_width, (*head, *(line for row in texts for line in row[number].split("\n")))))
            for number, head in enumerate(heads)
        ]
        least = [
            size if number in self.right else min(size, max(NARROWEST, *map(_longest, (*heads[number], *cells))))
            for number, (size, *cells) in enumerate(zip(widest, *texts, strict=True))
        ]
        found = [line for line in folded(printable(self.title), width) if line]
        parts = _parts(least, self.keys, width, self.beside)
        if parts is None:
            found += _cards([printable(name) for name in self.columns], texts, width)
        for number, part in enumerate(parts or ()):
            found += [""] if number else []
            found += self._part(part, heads, texts, styles, _fitted(part, widest, least, width))
        return found + [line for line in folded(printable(self.caption), width) if line]

    def _part(
        self,
        part: Sequence[int],
        heads: Sequence[Sequence[str]],
        texts: Sequence[Sequence[str]],
        styles: Sequence[Sequence[str]] | None,
        widths: Sequence[int],
    ) -> Iterator[str]:
        """Lines of the columns ``part``, as wide as ``widths`` say."""
        right = [each in self.right for each in part]
        deepest = max(len(heads[each]) for each in part)
        above = [[""] * (deepest - len(heads[each])) + list(heads[each]) for each in part]
        folded_heads = [level for levels in zip(*above, strict=True) for level in _levels(levels, widths)]
        yield from (_line(level, widths, right) for level in folded_heads)
        yield RULE * (sum(widths) + len(GAP) * (len(widths) - 1))
        for number, row in enumerate(texts):
            marks = [styles[number][each] for each in part] if styles else None
            for level in _levels([row[each] for each in part], widths):
                yield _line(level, widths, right, marks)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table as rich prints it, in colour where the console has any."""
        from rich.text import Text

        for line in self.lines(options.max_width, console.color_system is not None):
            yield Text.from_ansi(line, no_wrap=True, overflow="ignore")


def _head(name: str, right: bool) -> list[str]:
    """The lines of a heading: numbers have a word a line, which leaves the width to names."""
    return name.split(" ") if right else [name]


def _parts(least: Sequence[int], keys: int, width: int, beside: frozenset[int]) -> list[list[int]] | None:
    """The columns of each part of a table, or None where one does not fit beside those that it needs."""
    every = list(range(len(least)))

    def room(columns: Sequence[int]) -> int:
        return sum(least[each] for each in columns) + len(GAP) * (len(columns) - 1)

    if room(every) <= width:
        return [every]
    first, rest = every[:keys], every[keys:]
    needed = {each: [*first, *_owner(each, keys, beside)] for each in rest}
    if not rest or any(room([*needed[each], each]) > width for each in rest):
        return None
    parts = [first]
    for each in rest:
        if room([*parts[-1], each]) > width:
            parts.append(needed[each])
        parts[-1] = [*parts[-1], each]
    return parts


def _owner(column: int, keys: int, beside: frozenset[int]) -> list[int]:
    """The column that one of ``beside`` belongs to, if it is not one that names rows; none for any other."""
    before = [each for each in range(keys, column) if each not in beside] if column in beside else []
    return before[-1:]


def _fitted(part: Sequence[int], widest: Sequence[int], least: Sequence[int], width: int) -> list[int]:
    """Widths of a part that fit: the widest column of those that can be narrower gives way."""
    fitted = [widest[each] for each in part]
    over = sum(fitted) + len(GAP) * (len(part) - 1) - width
    for _ in range(over):
        spare = [number for number, each in enumerate(part) if fitted[number] > least[each]]
        fitted[max(spare, key=lambda number: fitted[number])] -= 1
    return fitted


def _levels(texts: Sequence[str], widths: Sequence[int]) -> Iterator[Sequence[str]]:
    """Lines of a row: every text folded to its column's width."""
    if all("\n" not in text and _width(text) <= room for text, room in zip(texts, widths, strict=True)):
        yield texts
    else:
        yield from zip_longest(*map(folded, texts, widths), fillvalue="")


def _line(
    texts: Sequence[str], widths: Sequence[int], right: Sequence[bool], marks: Sequence[str] | None = None
) -> str:
    cells = []
    for number, text in enumerate(texts):
        space = " " * (widths[number] - _width(text))
        if marks and marks[number] and text:
            text = f"{STYLES[marks[number]]}{text}{PLAIN}"
        cells.append(space + text if right[number] else text + space)
    return GAP.join(cells).rstrip()


def _cards(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Every row as lines of ``column: text``."""
    found: list[str] = []
    for row in rows:
        found.append(RULE * min(width, NARROWEST))
        for name, text in zip(columns, row, strict=True):
            if text.strip():
                found += folded(f"{name}: {text.strip()}" if name else text, width)
    return found


@lru_cache(maxsize=2**17)  # a cell is measured for its column, and again for its line
def _width(text: str) -> int:
    """Columns that the text takes."""
    return len(text) if text.isascii() else cell_len(text)


@lru_cache(maxsize=2**17)
def _longest(text: str) -> int:
    """Columns of the longest part of a text that is kept whole: a word, or what hyphens leave of one."""
    widths = (_width(piece) for word in text.split() for piece in _pieces(word, LONGEST))
    return max((each for each in widths if each <= LONGEST), default=0)


def _pieces(word: str, room: int) -> list[str]:
    """A word in parts that are kept whole where they fit into ``room`` columns."""
    found = []
    for piece in HYPHEN.split(word):
        found += [piece] if _width(piece) <= room else WITHIN.split(piece)
    return found


def folded(text: str, room: int) -> list[str]:
    """Lines of at most ``room`` columns, broken at spaces where there are any, and never within a number that fits."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        if _width(paragraph) <= room:
            lines.append(paragraph)
            continue
        line = " " * (len(paragraph) - len(paragraph.lstrip()))
        for word in paragraph.split():
            joined = f"{line} {word}" if line.strip() else line + word
            if _width(joined) <= room:
                line = joined
                continue
            if line.strip():
                lines.append(line)
            *whole, line = _broken(word, room)
            lines += whole
        lines.append(line)
    return lines


def _broken(word: str, room: int) -> list[str]:
    """A word in lines of at most ``room`` columns: after hyphens, else after signs such as =, else anywhere."""
    if _width(word) <= room:
        return [word]
    lines = [""]
    for piece in _pieces(word, room):
        whole = [piece] if _width(piece) <= room else ATOM.findall(piece)
        for part in (part for atom in whole for part in ([atom] if _width(atom) <= room else atom)):
            if lines[-1] and _width(lines[-1] + part) > room:
                lines.append("")
            lines[-1] += part
    return lines
