"""The committed BENCHMARKS.md is what the committed results give."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from grasp_bench.cli import app

ROOT = Path(__file__).parents[2]


def test_benchmarks_are_up_to_date(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    before = (ROOT / "BENCHMARKS.md").read_bytes()
    shown = CliRunner().invoke(app, ["report", "--update", "BENCHMARKS.md", "--check"])
    assert shown.exit_code == 0, shown.output or shown.exception
    assert (ROOT / "BENCHMARKS.md").read_bytes() == before
