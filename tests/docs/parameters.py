"""The table of parameters in docs/backbones.md, written by `make parameters` in a few minutes."""

from __future__ import annotations

import re

from grasp_bench import plugins
from grasp_bench.estimate.parameters import lines, rows

from .pages import ROOT

PAGE = ROOT / "docs" / "backbones.md"
BETWEEN = re.compile(r"(?<=<!-- parameters -->\n).*?(?=<!-- end parameters -->)", re.DOTALL)
VARIANTS = (
    ("shared-adapter", ("control=active",)),
    ("cbdm", ("on=lora",)),
    ("coral", ("on=grasp",)),
)
"""Methods with settings, beside every method with its defaults."""


def written() -> dict[str, list[str]]:
    """First cell of a row → all its cells, as they stand in the page."""
    found = BETWEEN.search(PAGE.read_text(encoding="utf-8"))
    assert found, f"{PAGE} has no markers"
    split = ([cell.strip() for cell in line.strip("|").split("|")] for line in found[0].splitlines() if line[:1] == "|")
    return {cells[0]: cells for cells in split}


if __name__ == "__main__":
    asked = sorted([*((name, ()) for name in plugins.entries("methods")), *VARIANTS])
    text = "\n" + "\n".join(lines(rows(asked))) + "\n\n"
    PAGE.write_text(BETWEEN.sub(lambda _: text, PAGE.read_text(encoding="utf-8")), encoding="utf-8")
