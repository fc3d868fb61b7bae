"""Training in two stages: what each draws and trains."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import runs
from helpers.attaching import attach
from pydantic import ValidationError

from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.baselines.cbdm import Cbdm
from grasp_bench.baselines.two_stage import TwoStage
from grasp_bench.io import read_tensors
from grasp_bench.run.files import WEIGHTS
from grasp_bench.run.options import Options
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.plan import plan
from grasp_bench.run.training import loop
from grasp_bench.run.training.batches import Batches

COUNTS = np.array([600, 60, 6])
STEPS = 20  # of the budget `smoke`


def trained(tmp_path, method: str, *settings: str) -> dict[str, torch.Tensor]:
    asked = plan(method=method, task="digits-lt", budget="smoke", method_settings=settings)
    assert asked.spec.budget.steps == STEPS
    options = Options(tmp_path / "results", tmp_path / "work", "cpu")
    return read_tensors(Pipeline(asked, options, torch.device("cpu"), runs.Listener()).trained / WEIGHTS)


def test_the_second_stage_is_the_last_share_and_balanced() -> None:
    method = TwoStage(TwoStage.Config(share=0.25))
    stage = method.second_stage(1000, COUNTS)
    assert stage.start == 750
    assert np.allclose(stage.sample_weights * COUNTS, 1)
    assert TwoStage(TwoStage.Config(share=0.01)).second_stage(10, COUNTS).start == 9


def test_on_all_weights_the_output_layers_go_on_and_on_adapters_everything() -> None:
    _, whole = attach(TwoStage)
    going_on = {name for name in whole.parameters() if whole.second_stage(4, COUNTS).trains(name)}
    assert {name.split(".")[0] for name in going_on} == {"norm_out", "proj_out"}
    _, adapters = attach(TwoStage, on="lora")
    assert all(map(adapters.second_stage(4, COUNTS).trains, adapters.parameters()))
    assert attach(Cbdm, on="two-stage")[1].second_stage(4, COUNTS) is not None


def test_the_first_stage_sees_what_other_methods_see_and_the_second_does_not(tmp_path, monkeypatch) -> None:
    seen: dict[str, list[list[str]]] = {}
    rested: list[set[str]] = []
    batch, rest = Batches.batch, loop._rest

    def recorded(self: Batches, step: int):
        made = batch(self, step)
        seen.setdefault(self.spec.method.name, [[]] * 1000)[step] = made.ids
        return made

    def resting(parameters, trains) -> None:
        rest(parameters, trains)
        rested.append({name.split(".")[0] for name, each in parameters.items() if each.grad is not None})

    monkeypatch.setattr(Batches, "batch", recorded)
    monkeypatch.setattr(loop, "_rest", resting)
    start = {name: value.clone() for name, value in TinySD3.load().transformer.state_dict().items()}
    plain, staged = trained(tmp_path, "vanilla-ft"), trained(tmp_path, "two-stage", "share=0.5")
    assert seen["two-stage"][: STEPS // 2] == seen["vanilla-ft"][: STEPS // 2]
    assert all(seen["two-stage"][step] != seen["vanilla-ft"][step] for step in range(STEPS // 2, STEPS))
    assert rested == [{"norm_out", "proj_out"}] * (STEPS // 2)
    assert plain.keys() == staged.keys()
    assert not any(torch.equal(staged[name], start[name]) for name in ("proj_out.weight", "context_embedder.weight"))


def test_weighted_losses_are_refused() -> None:
    with pytest.raises(ValidationError, match="leave it at none"):
        TwoStage.Config(weighting="effective-number")
