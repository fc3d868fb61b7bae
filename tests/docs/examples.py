"""The outputs that docs/first-run.md shows, written by `make examples` from the records in docs/examples."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from pathlib import Path
from unittest import mock

from typer.testing import CliRunner

from grasp_bench.cli import app
from grasp_bench.cli.run import show
from grasp_bench.contracts.record import read_record

from .pages import ROOT

PAGE = ROOT / "docs" / "first-run.md"
EXAMPLES = ROOT / "docs" / "examples"
METHODS = ("grasp", "vanilla-ft")
COLUMNS = "100"


def record_path(method: str) -> Path:
    """The record of the example."""
    return EXAMPLES / "digits-lt" / method / "seed-0" / "record.json"


def scores() -> str:
    """What a run prints at its end."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), mock.patch.dict(os.environ, {"COLUMNS": COLUMNS, "TERM": "dumb"}):
        show(read_record(record_path("grasp")), Path("results/digits-lt/grasp/seed-0/record.json"), all_scores=False)
    return out.getvalue()


def report() -> str:
    """What `report` prints of both runs, without the costs, which are those of a busy machine."""
    words = ["report", "--metric", "fd", "--metric", "accuracy", "--source", "generated", "--results", str(EXAMPLES)]
    shown = CliRunner(env={"COLUMNS": COLUMNS}).invoke(app, words, catch_exceptions=False)
    return re.sub(r"\ncost\n.*?\n\n(?=Mean)", "\n[…]\n\n", shown.output, flags=re.DOTALL)


def versions() -> str:
    """Of which versions the outputs are, in a sentence."""
    spec = read_record(record_path("grasp")).spec
    task, method = spec.task.version, spec.method.version
    return f"These outputs are of version {task} of `digits-lt` and version {method} of `grasp`.\n"


def renewed() -> str:
    """What should stand in the page."""
    text = PAGE.read_text(encoding="utf-8")
    made = {"scores": f"```text\n{scores()}```\n", "report": f"```text\n{report()}```\n", "versions": versions()}
    for name, content in made.items():
        opening, end = f"<!-- example: {name} -->\n", "<!-- end -->"
        before, _, rest = text.partition(opening)
        text = f"{before}{opening}\n{content}\n{end}{rest.partition(end)[2]}"
    return text


if __name__ == "__main__":
    stale = renewed() != PAGE.read_text(encoding="utf-8")
    if stale:
        print(PAGE.relative_to(ROOT))
        PAGE.write_text(renewed(), encoding="utf-8")
    sys.exit(0)
