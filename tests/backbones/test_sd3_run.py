"""A run on a saved SD3 pipeline, as a user starts it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.tiny_pipelines import save_sd3
from typer.testing import CliRunner

from grasp_bench.cli import app


@pytest.mark.slow
def test_grasp_fine_tunes_a_saved_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_sd3(tmp_path / "pipeline", tmp_path / "scratch")
    monkeypatch.chdir(tmp_path)
    command = ["run", "-m", "grasp", "-t", "digits-lt", "--budget", "smoke", "--backbone", f"sd3:{folder}"]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.exception
    (path,) = Path("results").glob("*/grasp@sd3-*/seed-0/record.json")
    record = json.loads(path.read_text())
    assert record["status"] == "finished"
    assert record["spec"]["backbone"]["name"] == "sd3"
    assert str(folder) not in path.read_text()
    moved = folder.rename(tmp_path / "moved")
    command[-1] = f"sd3:{moved}"
    before = path.stat().st_mtime_ns
    assert CliRunner().invoke(app, command).exit_code == 0
    assert path.stat().st_mtime_ns == before  # the same weights elsewhere are the same run
