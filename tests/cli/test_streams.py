"""What cannot be printed: signs that an encoding lacks, and a device that is full."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from grasp_bench import cli


def listing(tmp_path: Path, to: object = subprocess.PIPE, **variables: str) -> subprocess.CompletedProcess[bytes]:
    words = [sys.executable, "-m", "grasp_bench", "list", "guidance"]
    environment = {**os.environ, **variables}
    return subprocess.run(words, stdout=to, stderr=subprocess.PIPE, cwd=tmp_path, env=environment, check=False)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_the_encoding_lacks_is_replaced(encoding: str, tmp_path: Path) -> None:
    found = listing(tmp_path, PYTHONIOENCODING=encoding)
    assert (found.returncode, found.stderr) == (0, b"")
    assert b"\n-----" in found.stdout
    assert b"cfg " in found.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_device_is_one_message(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        found = listing(tmp_path, full)
    assert found.returncode == 2
    assert found.stderr == b"error: what was to be printed cannot be written (No space left on device).\n"


def test_standard_output_that_is_closed_is_written_to_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)  # what Python makes of >&-
    monkeypatch.setattr(sys, "argv", ["grasp-bench", "--version"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0


def test_a_mistake_is_not_told_to_standard_output_where_error_is_closed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "argv", ["grasp-bench", "show", "nothing-of-this-name"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert (stop.value.code, capsys.readouterr().out) == (2, "")


def test_a_question_to_standard_input_that_is_closed_is_not_answered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = tmp_path / "score" / ("0" * 20)
    stage.mkdir(parents=True)
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "argv", ["grasp-bench", "cache", "clear", "--work-dir", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert (stop.value.code, stage.is_dir()) == (1, True)
    assert "Aborted" in capsys.readouterr().err
