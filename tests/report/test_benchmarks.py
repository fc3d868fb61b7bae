"""The committed BENCHMARKS.md is what the committed results give."""

import json
import re
from pathlib import Path

import numpy as np
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


def test_usage_of_experts_is_what_the_records_say():
    rows = re.findall(
        r"^\| (moe[^ |]*) \| ([\d.]+) % \| (\d+) % \| ([\d.]+) \|$", (ROOT / "BENCHMARKS.md").read_text(), re.MULTILINE
    )
    assert len(rows) == 8
    for label, *numbers in rows:
        paths = sorted((ROOT / "results/digits-lt" / label.replace("\\", "")).glob("seed-*/record.json"))
        assert len(paths) == 5
        found = []
        for path in paths:
            last = json.loads(path.read_text())["diagnostics"][-1]["expert_usage"]
            head, tail = np.array(last["head"]), np.array(last["tail"])
            entropy = -sum(share * np.log(share) for share in tail if share > 0)
            found.append((50 * np.abs(head - tail).sum(), 100 * tail.max(), np.exp(entropy)))
        expected = np.mean(found, 0)
        assert [f"{expected[0]:.1f}", f"{expected[1]:.0f}", f"{expected[2]:.2f}"] == numbers, label
