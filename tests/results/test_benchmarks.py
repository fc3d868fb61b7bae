"""The committed BENCHMARKS.md is what the committed results give."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from typer.testing import CliRunner

from grasp_bench.cli import app
from grasp_bench.stats import paired_difference

ROOT = Path(__file__).parents[2]
FD_TAIL = ("fd", "tail", "group")


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


def test_what_guidance_changes_is_what_the_records_say():
    """Numbers across two tables, which no report prints."""
    tails: dict[str, dict[str, np.ndarray]] = {"+none": {}, "": {}}
    for guidance, found in tails.items():
        for folder in (ROOT / "results/digits-lt").glob("*+none~tuned=8"):
            method = folder.name.partition("+")[0]
            paths = [folder.parent / f"{method}{guidance}~tuned=8/seed-{seed}/record.json" for seed in range(5)]
            metrics = [json.loads(path.read_text())["scores"] for path in paths]
            pooled = [m["value"] for of in metrics for m in of if (m["metric"], m["group"], m["scope"]) == FD_TAIL]
            found[method] = np.array(pooled)
    without, guided = (np.array([found[name] for name in sorted(found)]) for found in tails.values())
    assert without.shape == guided.shape == (18, 5)
    means = without.mean(1), guided.mean(1)
    differences = [paired_difference(a.tolist(), b.tolist(), "t") for a, b in zip(without, guided, strict=True)]
    text = " ".join((ROOT / "BENCHMARKS.md").read_text().split())
    assert f"{sum(means[0] < means[1])} of the 18 have a better mean tail FD" in text
    assert f"{sum(each.high < 0 for each in differences)} of them by more than the 95 % interval" in text
    assert f"in the two tables is {spearmanr(*means).statistic:.2f}.".replace("-", "\N{MINUS SIGN}") in text
