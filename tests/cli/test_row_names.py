"""Rows are called by columns or words wherever a command prints them, and never by the name of their folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.records import metric, record
from typer.testing import CliRunner

from grasp_bench.cli import app
from grasp_bench.contracts.record import Tuning, write_record
from grasp_bench.contracts.row import Row
from grasp_bench.run.plan import plan

TUNED = Tuning(trials=8, best=1, settings={"learning_rate": 1e-3}, sampler="tpe")
PACKED = {
    "vanilla-ft+cfg~guidance_scale=1.18~tuned=8-tpe": {"guidance": {"guidance_scale": 1.18}},
    "lora~tuned=8-tpe": {},
    "lora~tuned=8-tpe,rank=2": {"method": {"rank": 2}},
}
RUNS = [f"results/digits-lt/{label}/seed-0" for label in PACKED]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three seeds of each row on each of four tasks, a row that failed, and a sweep."""
    for task in ("digits-lt", "b", "c", "d"):
        for number, (label, changed) in enumerate(PACKED.items()):
            for seed in range(3):
                scores = [metric("fd", group, 10.0 * number + seed, lower=True) for group in ("tail", "all")]
                found = record(label.split("+")[0].split("~")[0], seed, scores, label=label, task=task)
                given = {"changed": changed, "tuned": TUNED, "streams": f"{number:064}", "default_guidance": True}
                folder = tmp_path / "results" / task / label / f"seed-{seed}"
                write_record(folder, found.model_copy(update=given))
    failed = record("grasp", 0, label="grasp~rank=3", status="failed", reason="it failed")
    folder = tmp_path / "results" / "digits-lt" / "grasp~rank=3" / "seed-0"
    write_record(folder, failed.model_copy(update={"changed": {"method": {"rank": 3}}}))
    (tmp_path / "sweep.toml").write_text(
        'methods = ["lora"]\ntasks = ["digits-lt"]\nseeds = [0]\nguidances = ["none"]\n[set.lora]\nrank = [2, 4]\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        *(["report", "--all", "--format", form, "--baseline", next(iter(PACKED))] for form in ("table", "markdown")),
        ["report", "--all", "--format", "latex"],
        ["compare", *RUNS[:2]],
        ["status", "sweep.toml"],
    ],
    ids=lambda words: " ".join(words[:4]),
)
def test_no_table_packs_a_row_into_one_name(words: list[str], results: Path) -> None:
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, (shown.exception, shown.output)
    text = shown.output.replace("\\_", "_").replace(r"\textasciitilde{}", "~").replace("~$", "$")
    assert "~tuned" not in text
    assert "~guidance" not in text
    assert "~rank" not in text
    assert "method" in text
    assert "guidance" in text
    assert "settings" in text
    if words[0] == "report":
        for told in ("guidance_scale=1.18", "rank=2", "rank=3"):
            assert told in text


def test_a_row_says_in_a_sentence_what_is_not_the_default() -> None:
    assert str(Row("lora", "cfg", "", "", False)) == "lora"
    assert str(Row("lora", "none", "rank=2", "8", True)) == "lora with none, rank=2, tuned=8"
    chosen = plan(
        method="lora",
        task="digits-lt",
        guidance="cfg",
        seed=3,
        method_settings=["rank=2"],
        guidance_settings=["guidance_scale=1.5"],
    )
    assert chosen.title == "lora with cfg, guidance_scale=1.5, rank=2 on digits-lt, seed 3"
    assert chosen.label == "lora+cfg~guidance_scale=1.5~rank=2"
