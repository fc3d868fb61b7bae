"""Tables within a document that are made from the results: between markers, and nothing else is touched.

A block begins with a line ``<!-- grasp-bench report --task digits-lt --metric fd -->``, whose options say what it
holds, and ends with a line ``<!-- end -->``; ``<!-- report --task digits-lt -->`` is short for it. What stands in a
fenced block of code is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from grasp_bench.errors import UserError
from grasp_bench.io import check_file
from grasp_bench.results.options import Options, parse_options

OPENING = re.compile(r"<!--\s*(?:grasp-bench\s+report\b|report(?=\s*-))(?P<options>.*?)-->")
END = re.compile(r"<!--\s*end\s*-->")
FENCE = re.compile(r" {0,3}(```+|~~~+)")
LEVEL = 3
"""Level of the headings within a block: below the chapters of a document."""
EXAMPLE = "<!-- grasp-bench report --task digits-lt -->"


def read_document(path: Path) -> str:
    """The text of a document, line ends as they are. Raises :class:`UserError` where it cannot be read."""
    try:
        return check_file(path).read_bytes().decode()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}). Name the document that has the markers."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 ({error.reason} at byte {error.start}). Save it as UTF-8.") from error


def updated(path: Path, text: str, make: Callable[[Options], str]) -> str:
    """``text`` with every block as ``make`` has it, in the document's own line ends.

    Raises :class:`UserError` that names the line of ``path`` for an option that cannot stand in a marker, a block
    without an end, and a document without blocks.
    """
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)  # not splitlines, for which more than a newline ends a line
    newline = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    found: list[str] = []
    done = 0
    for start, end, options in _blocks(path, lines):
        content = f"\n{make(options).strip()}\n\n".replace("\n", newline)
        found += [*lines[done:start], content]
        done = end
    if not done:
        raise UserError(
            f"{path}: has no block to update. Begin one with the line `{EXAMPLE}`, end it with `<!-- end -->`."
        )
    return "".join([*found, *lines[done:]])


def _blocks(path: Path, lines: list[str]) -> Iterator[tuple[int, int, Options]]:
    """The index of each block's first line, that of its closing marker's line, and its options."""
    opened: tuple[int, Options] | None = None
    fence = ""
    for number, line in enumerate(lines):
        if opened is None and (mark := FENCE.match(line)):
            if not fence:
                fence = mark[1]
            elif mark[1].startswith(fence):
                fence = ""
        if fence:
            continue
        where = f"{path}, line {number + 1}"
        if opening := OPENING.fullmatch(line.strip()):
            if opened:
                raise UserError(
                    f"{where}: a block begins within that of line {opened[0]}. End that with `<!-- end -->`."
                )
            opened = number + 1, parse_options(opening["options"], where)
        elif END.fullmatch(line.strip()) and opened:
            yield opened[0], number, opened[1]
            opened = None
    if opened:
        raise UserError(f"{path}, line {opened[0]}: the block has no end. Write the line `<!-- end -->` after it.")
