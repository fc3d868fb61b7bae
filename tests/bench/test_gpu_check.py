"""The twin of the check of a GPU: the same script on a CPU at a toy size, part by part."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from grasp_bench.errors import UserError

from . import cpu_record, gpu_check, recording
from .gpu_check import Check, Measure, Steps, check, tiny
from .products import UNKNOWN, share_of_peak
from .recording import ROOT

CPU = torch.device("cpu")


@pytest.fixture
def asked(tmp_path: Path) -> Check:
    return Check(tiny(tmp_path), CPU, tmp_path)


@pytest.mark.slow
def test_routes_and_checkpoints_are_equal(asked: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    gradients, resumed = asked.equality()
    assert gradients.met
    assert gradients.value < 1e-2
    assert resumed.met
    monkeypatch.setattr(gpu_check, "restore_checkpoint", lambda *_: None)
    assert not list(asked.equality())[1].met


def test_parts_that_are_not_begun_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "ROOT", tmp_path)
    monkeypatch.setattr(Check, "estimate_all", lambda asked: None)
    (last,) = check(tiny(tmp_path), CPU, -1, tmp_path)
    assert not last.met
    assert last.details["left_out"] == ["equality", "against_estimates", "speed", "whole", "small"]
    assert json.loads((tmp_path / "gpu-check.json").read_text())["all_met"] is False


@pytest.mark.slow
def test_an_error_in_one_part_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(asked: Check) -> list[Measure]:
        raise RuntimeError("CUDA error: an illegal memory access")

    monkeypatch.setattr(recording, "ROOT", tmp_path)
    monkeypatch.setattr(Check, "estimate_all", lambda asked: None)
    for part in ("equality", "against_estimates", "speed", "whole"):
        monkeypatch.setattr(Check, part, broken)
    found = check(tiny(tmp_path), CPU, 60, tmp_path)
    assert [each.met for each in found[:4]] == [False] * 4
    assert [each.name.split(": ")[-1] for each in found[4:-1]] == ["training", "sampling"]
    assert all(each.value > 0 and each.unit == "images/s" for each in found[4:-1])
    assert found[-1].met


@pytest.mark.slow
def test_a_step_on_a_device_is_that_of_the_harness(asked: Check) -> None:
    steps = Steps(asked.subject(asked.sizes.backbones[0], "lora"), CPU, parts=2)
    before = {name: each.detach().clone() for name, each in steps.parameters.items()}
    steps()
    assert any(not torch.equal(each, steps.parameters[name]) for name, each in before.items())


def test_the_peak_is_that_of_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(name: str) -> tuple[Check, Measure]:
        monkeypatch.setattr(gpu_check, "card", lambda device: (name, 79.1))
        made = Check(tiny(tmp_path), CPU, tmp_path)
        return made, share_of_peak("lora", 156e12, made.peak, "how", {})

    a100, share = found("NVIDIA A100-SXM4-80GB")
    assert a100.gpu == "70.1,312,2039"
    assert (share.value, share.unit, share.details["share_of_peak"]) == (0.5, "of 312 TFLOP/s", 0.5)
    unknown, rate = found("NVIDIA T1000")
    assert unknown.peak is None
    assert (rate.value, rate.unit) == (156, "TFLOP/s; unknown card: not divided")
    assert rate.details["share_of_peak"] == "unknown card: not divided"


def test_without_a_record_of_a_cpu_the_reason_is_said(
    asked: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "ROOT", tmp_path)
    told = next(asked.whole())
    assert not told.met
    assert told.details["not_compared"] in told.name  # which the table on the screen shows
    assert "no record of grasp on digits-lt with budget smoke" in told.name


def test_what_is_in_the_way_of_a_record_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_another_version(run: Path) -> None:
        raise UserError(f"{run}: method grasp is of version 3 here")

    monkeypatch.setattr(cpu_record, "recorded_plan", of_another_version)
    assert cpu_record.find(ROOT / "results", "standard") == "method grasp is of version 3 here"


def test_a_committed_record_is_taken_or_what_is_in_its_way_named() -> None:
    found = cpu_record.find(ROOT / "results", "standard")
    if isinstance(found, str):
        assert "version" in found
    else:
        path, plan, record = found
        assert path.is_relative_to(ROOT / "results")
        assert (plan.spec, record.environment.device) == (record.spec, "cpu")


@pytest.mark.slow
def test_the_whole_twin_ends_well(tmp_path: Path) -> None:
    """In a process of its own, since compilation does not stand what other tests do to imports."""
    code = (
        "import pathlib, sys, torch\nfrom bench import recording\nfrom bench.gpu_check import check, tiny\n"
        "from grasp_bench import api\n"
        "recording.ROOT = folder = pathlib.Path(sys.argv[1])\n"
        "options = dict(results=folder / 'results', work_dir=folder / 'work', device='cpu')\n"
        "api.run('grasp', 'digits-lt', budget='smoke', **options)\n"
        "check(tiny(folder), torch.device('cpu'), 60, folder)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "gpu-check.json").read_text())
    found = {each["name"].split(": ")[-1]: each for each in written["measures"]}
    assert written["all_met"], found
    compared = found["agrees with the CPU's record"]
    assert compared["weights_equal"]
    assert compared["record"].startswith("results/")
    assert found["scores further from the CPU's record than two seeds are apart"]["verdicts"].keys() == {"equal"}
    assert {each["share_of_peak"] for each in written["measures"] if "share_of_peak" in each} == {UNKNOWN}
    named = {"memory against the estimate", "time against the estimate", "products", "training", "sampling"}
    assert named <= found.keys()
