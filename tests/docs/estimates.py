"""The table of estimates in docs/runs.md, written by `make estimates` in about half an hour."""

from __future__ import annotations

import re
from collections.abc import Iterable

from grasp_bench.estimate.table import lines, rows

from .pages import ROOT

PAGE = ROOT / "docs" / "runs.md"
BETWEEN = re.compile(r"(?<=<!-- estimates -->\n).*?(?=<!-- end -->)", re.DOTALL)


def written() -> dict[tuple[str, ...], str]:
    """Backbone, pixels and method → the row that stands in the page."""
    found = BETWEEN.search(PAGE.read_text(encoding="utf-8"))
    assert found, f"{PAGE} has no markers"
    return {tuple(cell.strip() for cell in line.split("|")[1:4]): line for line in found[0].strip().splitlines()[2:]}


def write(table: Iterable[list[str]]) -> None:
    """Put the rows between the markers, once all are there; tell each as it comes."""
    table = [told(row) for row in table]
    text = "\n" + "\n".join(lines(table)) + "\n\n"
    PAGE.write_text(BETWEEN.sub(lambda _: text, PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def told(row: list[str]) -> list[str]:
    """Print a row and return it."""
    print(*row, sep=" | ", flush=True)
    return row


if __name__ == "__main__":
    write(rows())
