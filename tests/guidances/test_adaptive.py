"""Adaptive guidance: its limits, and a gate that is each sample's own and never opens again."""

from collections import Counter

import pytest
import torch
from gaussian_world import OBJECTIVES, World, assert_samples_are_independent, sample

from grasp_bench.contracts.backbone import PromptEmbeddings
from grasp_bench.contracts.guidance import Model, SamplingStep
from grasp_bench.contracts.method import Condition
from grasp_bench.contracts.objective import FlowMatching
from grasp_bench.contracts.settings import Settings
from grasp_bench.guidances.adaptive import AdaptiveGuidance, AdaptiveSettings
from grasp_bench.guidances.cfg import CfgSettings, ClassifierFreeGuidance, NoGuidance


def guidance(**settings: float) -> AdaptiveGuidance:
    return AdaptiveGuidance(AdaptiveSettings(**settings))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_its_limits_are_cfg_and_no_guidance(name: str) -> None:
    objective = OBJECTIVES[name]
    cfg, none = ClassifierFreeGuidance(CfgSettings(guidance_scale=3)), NoGuidance(Settings())
    for settings, same, unconditional in (
        ({"guidance_scale": 3, "threshold": 2}, cfg, 30),
        ({"guidance_scale": 3, "threshold": -1}, none, 5),
        ({"guidance_scale": 1, "threshold": 2}, none, 0),
    ):
        world = World(objective)
        for a, b in zip(
            sample(guidance(**settings), world.model()), sample(same, World(objective).model()), strict=True
        ):
            assert torch.equal(a, b)
        assert world.evaluations == {"c": 30, "u": unconditional}


def test_a_sample_that_is_done_stays_done_and_costs_one_evaluation() -> None:
    """The branches of sample 0 agree at the second step alone, those of sample 1 never."""
    counted: Counter[bool] = Counter()
    angles = {0.9: (1.0, 1.0), 0.6: (0.0, 1.0), 0.3: (1.0, 1.0)}

    def network(x: torch.Tensor, condition: Condition) -> torch.Tensor:
        rows = []
        for label, dropped, t in zip(condition.labels, condition.dropped, condition.timesteps, strict=True):
            counted[bool(dropped)] += 1
            angle = torch.tensor(angles[round(t.item(), 1)][int(label)] * bool(dropped))
            rows.append(torch.stack([angle.cos(), angle.sin()]))
        return torch.stack(rows)

    labels, prompts = torch.arange(2), PromptEmbeddings(torch.zeros(2, 1))
    model, memory = Model(network, FlowMatching(), labels, prompts, prompts), dict[str, torch.Tensor]()
    conditional = torch.tensor([1.0, 0.0])
    guided = []
    for index, t in enumerate((0.9, 0.6, 0.3)):
        step = SamplingStep(index, 3, torch.full((2,), t), torch.full((2,), t - 0.3), memory, [])
        prediction = guidance(guidance_scale=2, threshold=0.99).predict(model, torch.zeros(2, 2), step)
        guided.append([not torch.equal(row, conditional) for row in prediction])
    assert guided == [[True, True], [False, True], [False, True]]
    assert counted == {False: 6, True: 5}


def test_samples_are_independent() -> None:
    world = World(OBJECTIVES["flow"])
    partly = guidance(guidance_scale=3, threshold=0.9)
    sample(partly, world.model())
    assert 5 < world.evaluations["u"] < 30  # the gate is not the same for all
    assert_samples_are_independent(partly, OBJECTIVES["flow"])
