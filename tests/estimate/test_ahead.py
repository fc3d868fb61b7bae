"""What is said of a run before it begins: an estimate, or why there is none, and never an error."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from device.tiny import save
from helpers.records import cost, record
from typer.testing import CliRunner

from grasp_bench.cli import app
from grasp_bench.contracts.record import write_record
from grasp_bench.contracts.spec import SMOKE, STANDARD
from grasp_bench.estimate import ahead
from grasp_bench.estimate.devices import DEVICES, of_card, parse_device
from grasp_bench.estimate.subject import WITHOUT_FILES
from grasp_bench.estimate.timing import timed
from grasp_bench.run import runner
from grasp_bench.run.options import Options
from grasp_bench.run.plan import Plan, plan
from grasp_bench.sweep import cells as cells_module
from grasp_bench.sweep import local, slurm


def of(backbone: str | None, method: str = "grasp", budget: str = STANDARD, settings: tuple[str, ...] = ()) -> Plan:
    asked = {"method": method, "task": "digits-lt", "backbone": backbone, "budget": budget}
    return plan(**asked, method_settings=settings, opening=WITHOUT_FILES)


def said(planned: Plan, folder: Path, card: tuple[str, float] | None = None) -> str:
    options = Options(folder, folder)
    return ahead.before_run(planned, "digits-lt", planned.spec.budget.name, options, 1, card)


def answered(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Let every estimate say that all is well, and return the commands that asked for one."""
    asked: list[list[str]] = []

    def keep(command: list[str], **_: Any) -> SimpleNamespace:
        asked.append(command)
        return SimpleNamespace(returncode=0, stdout="all well\n", stderr="")

    monkeypatch.setattr(subprocess, "run", keep)
    return asked


@pytest.mark.slow
def test_a_run_on_a_saved_pipeline_is_estimated_in_one_line(tmp_path: Path) -> None:
    told = said(of(save("pixart", tmp_path)), tmp_path)
    assert told.startswith("estimate: ")
    assert "parameters trained" in told
    assert "at the peak of training" in told
    assert told.endswith("here it runs on the CPU, which no estimate is made for")
    assert "\n" not in told


@pytest.mark.slow
def test_what_cannot_be_estimated_is_said_in_one_line(tmp_path: Path) -> None:
    told = said(of(save("pixart", tmp_path), settings=("partition=text",)), tmp_path)
    assert told.startswith("no estimate: method grasp")
    assert "\n" not in told
    told = said(of(save("pixart", tmp_path)), tmp_path, ("Voodoo 2", 0.01))
    assert told.startswith("no estimate: the speed of Voodoo 2 is not known")


def test_an_estimate_that_takes_too_long_or_dies_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = of(save("pixart", tmp_path))
    monkeypatch.setattr(ahead, "PATIENCE", 0.01)
    assert said(planned, tmp_path) == "no estimate: it took more than 0.01 s"
    ahead._asked.cache_clear()
    died = SimpleNamespace(returncode=-11, stdout="", stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: died)
    assert said(planned, tmp_path).startswith("no estimate: exit code -11")


@pytest.mark.parametrize(("backbone", "budget"), [(None, STANDARD), ("pixart", SMOKE)])
def test_small_runs_are_not_simulated(
    backbone: str | None, budget: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", None)
    planned = of(backbone and save(backbone, tmp_path), budget=budget)
    told = said(planned, tmp_path)
    assert f"{planned.spec.budget.steps:,} steps of {planned.spec.budget.batch_size} images" in told
    assert "no such run is recorded yet" in told
    write_record(tmp_path / planned.folder.parent / "seed-3", record("grasp", 3, cost=cost()))
    assert "; seed 3 took " in said(planned, tmp_path)


def before(planned: Plan, folder: Path, processes: int = 1) -> str:
    name, options = planned.spec.budget.name, Options(folder, folder)
    return ahead.before_run(planned, "digits-lt", name, options, processes, None, torch.device("cpu"))


def test_a_first_run_on_a_tiny_backbone_has_an_estimate_of_time_and_says_that_it_is_tiny(tmp_path: Path) -> None:
    planned, state = of(None, "lora"), torch.get_rng_state()
    told = before(planned, tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert told.startswith(f"tiny-sd3 is a tiny backbone ({planned.backbone.kind.caution}); ahead: ")
    assert re.search(r"estimate: about \d+ s to train and \d+ s to generate on cpu", told)


def test_nothing_is_loaded_to_be_timed_where_a_time_is_known_or_would_be_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned, smoke, large = of(None, "lora"), of(None, "lora", SMOKE), of(save("pixart", tmp_path), budget=SMOKE)
    for each in (planned, large):
        monkeypatch.setattr(type(each.backbone), "load", None)
    assert before(planned, tmp_path, processes=2).endswith("no such run is recorded yet")
    assert before(smoke, tmp_path).endswith("no such run is recorded yet")
    assert before(large, tmp_path).startswith("ahead: ")
    write_record(tmp_path / planned.folder.parent / "seed-3", record("lora", 3, cost=cost()))
    told = before(planned, tmp_path)
    assert told.startswith("tiny-sd3 is a tiny backbone")
    assert "; seed 3 took " in told


def test_a_long_time_is_told_in_minutes_and_grows_with_the_work() -> None:
    quick, long = of(None, "lora", SMOKE), of(None, "lora", STANDARD)
    assert timed(long, torch.device("cpu"), 100).train > timed(quick, torch.device("cpu"), 100).train
    assert ahead._rounded(90.4) == "90 s"
    assert ahead._rounded(1500) == "25 min"


def test_the_options_of_a_run_are_those_of_its_estimate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answered(monkeypatch)
    planned = plan(
        method="lora",
        task="digits-lt",
        backbone=save("sana", tmp_path),
        guidance="apg",
        resolution=512,
        method_settings=["rank=3"],
        guidance_settings=["eta=0.5"],
        task_settings=["optimizer=adamw-fused"],
        opening=WITHOUT_FILES,
    )
    options = Options(tmp_path, tmp_path, accumulate=4, gradient_checkpointing=True, batch_size=7)
    told = ahead.before_run(planned, "digits-lt", STANDARD, options, 2, ("NVIDIA H100 80GB HBM3", 79.1))
    assert told == "estimate: all well"
    words = " ".join(asked[0])
    for part in (
        "--guidance apg",
        "--gpu 79.1,989,3350",
        "--processes 2",
        "--accumulate 4",
        "--gradient-checkpointing on",
        "--batch-size 7",
        "--set rank=3",
        "--guidance-set eta=0.5",
        "--task-set optimizer=adamw-fused",
        "--resolution 512",
    ):
        assert part in words


def test_of_sharded_weights_nothing_is_said_to_fit_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", None)
    options = Options(tmp_path, tmp_path, shard=True)
    told = ahead.before_run(of(save("pixart", tmp_path)), "digits-lt", STANDARD, options, 4, ("NVIDIA H100", 79.1))
    assert told == "no estimate: the weights are sharded over the processes, which an estimate does not cover"


def test_runs_that_differ_in_their_seeds_share_an_estimate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answered(monkeypatch)
    backbone = save("pixart", tmp_path)
    first, second = (
        said(plan(method="lora", task="digits-lt", seed=seed, backbone=backbone, opening=WITHOUT_FILES), tmp_path)
        for seed in (0, 1)
    )
    assert first == second
    assert len(asked) == 1
    said(of(backbone, "grasp"), tmp_path)
    assert len(asked) == 2


@pytest.mark.parametrize("words", [("--no-estimate",), ("--quiet",), ()])
def test_a_run_is_told_to_say_nothing_ahead(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    before: list[object] = []
    monkeypatch.setattr(runner, "run", lambda plan, options, progress, foretell: (before.append(foretell), None))
    monkeypatch.setattr(sys.modules["grasp_bench.cli.run"], "show", lambda *_: None)
    shown = CliRunner().invoke(app, ["run", "lora", "digits-lt", *words])
    assert shown.exit_code == 0, shown.exception
    assert [each is None for each in before] == [bool(words)]


@pytest.mark.parametrize("launcher", ["local", "slurm", "print"])
def test_a_sweep_says_first_what_it_takes_and_its_cells_do_not(
    launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, file = answered(monkeypatch), tmp_path / "s.toml"
    file.write_text(
        f'methods = ["lora"]\ntasks = ["digits-lt"]\nseeds = [0]\nbackbones = ["{save("pixart", tmp_path)}"]\n'
        f'[options]\ndevice = "cpu"\nresults = "{tmp_path}"\n'
    )
    cells: list[Any] = []
    monkeypatch.setattr(cells_module, "plan", partial(plan, opening=WITHOUT_FILES))
    monkeypatch.setattr(local, "run_cells", lambda sweep, given, *_: cells.extend(given))
    monkeypatch.setattr(slurm, "submit", lambda sweep, given, _: cells.extend(given) or {})
    shown = CliRunner().invoke(app, ["sweep", str(file), "--launcher", launcher])
    where = "here it runs on the CPU" if launcher == "local" else "which GPUs the runs will have is not known here"
    assert f"estimate: all well; {where}" in shown.stderr
    assert len(asked) == 1
    assert all("--no-estimate" in cell.arguments for cell in cells)
    assert len(cells) == 1 or shown.stdout.count(" --no-estimate ") == 1
    quiet = CliRunner().invoke(app, ["sweep", str(file), "--launcher", launcher, "--quiet"])
    assert "estimate: " not in quiet.stderr
    assert len(asked) == 1


def test_a_sweep_of_small_runs_or_of_many_kinds_is_not_estimated(tmp_path: Path) -> None:
    assert "too small" in ahead.before_sweep(tmp_path, [of(None)], lambda: None)
    backbone = save("pixart", tmp_path)
    many = [
        plan(method="lora", task="digits-lt", backbone=backbone, method_settings=[f"rank={n}"], opening=WITHOUT_FILES)
        for n in range(1, ahead.AT_MOST + 2)
    ]
    assert f"{len(many)} kinds" in ahead.before_sweep(tmp_path, many, lambda: None)


def test_cards_are_known_by_the_names_that_torch_has_for_them() -> None:
    found = of_card("NVIDIA A100-SXM4-80GB", 79.1)
    assert found is not None
    assert (found.tflops, found.bandwidth) == (312, DEVICES["a100-80gb"].bandwidth)
    assert parse_device(found.name) == found
    smaller = of_card("NVIDIA A100-SXM4-40GB", 39.4)
    assert smaller is not None
    assert smaller.bandwidth == DEVICES["a100-40gb"].bandwidth
    assert of_card("Quadro", 8) is None
