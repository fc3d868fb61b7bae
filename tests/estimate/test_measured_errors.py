"""Errors that were measured on a GPU are shown; without them it is said that there are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench.recording import RESULTS

from grasp_bench.estimate.measured_errors import GPU_CHECK, said


def test_the_file_is_that_of_the_checkout_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert GPU_CHECK == RESULTS / "gpu-check.json"
    assert "gpu-check:" in (GPU_CHECK.parents[2] / "Makefile").read_text()


def test_errors_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "gpu-check.json"
    assert "not been compared" in said(path)
    measures = [
        {"kind": "memory", "value": 0.034, "device": "NVIDIA H100"},
        {"kind": "memory", "value": -0.02, "device": "NVIDIA H100"},
        {"kind": "time", "value": 0.25, "device": "NVIDIA H100"},
        {"value": 3.0, "device": "NVIDIA H100"},
    ]
    path.write_text(json.dumps({"measures": measures}))
    assert "Measured on NVIDIA H100" in said(path)
    assert "memory -2% to +3%, time +25% to +25%" in said(path)
    path.write_text(json.dumps({"measures": [measures[0] | {"device": "cpu"}]}))
    assert "not been compared" in said(path)
