"""Linear adaptive guidance: where unconditional predictions are linear, it is classifier-free guidance."""

from dataclasses import replace

import pytest
import torch
from gaussian_world import OBJECTIVES, World, assert_samples_are_independent, sample

from grasp_bench.contracts.guidance import Model
from grasp_bench.contracts.method import Condition
from grasp_bench.contracts.objective import FlowMatching
from grasp_bench.errors import UserError
from grasp_bench.guidances.cfg import CfgSettings, ClassifierFreeGuidance
from grasp_bench.guidances.linear import LinearAdaptiveGuidance, LinearSettings, Recorder, regress
from grasp_bench.run.pipeline import stage_keys
from grasp_bench.run.plan import plan

STEPS = 8


class LinearWorld(World):
    """Its unconditional prediction is a quarter of the conditional one."""

    def network(self, x: torch.Tensor, condition: Condition) -> torch.Tensor:
        dropped = condition.dropped
        prompted = Condition(condition.labels, torch.zeros_like(dropped), condition.prompts, condition.timesteps)
        output = super().network(x, prompted)
        self.evaluations["u"] += int(dropped.sum())
        return output.where(~dropped.reshape(-1, 1, 1, 1), output / 4)


def learned(model: Model, steps: int = STEPS, **settings: float) -> LinearAdaptiveGuidance:
    """The guidance with what it learns from the ways of the model's own samples."""
    found = LinearAdaptiveGuidance(LinearSettings(**settings))
    recorder = Recorder(found.config)
    sample(recorder, model, steps)
    known = 2 * (steps // 2)
    found.coefficients, errors = regress(sum(recorder.products, torch.zeros(known, known, dtype=torch.float64)))
    found.count = steps
    assert len(errors) == steps // 2
    return found


@pytest.mark.parametrize("name", OBJECTIVES)
def test_linear_unconditional_predictions_are_found_and_guide_as_cfg_does(name: str) -> None:
    world = LinearWorld(OBJECTIVES[name])
    found = learned(world.model(), guidance_scale=3)
    world.evaluations.clear()
    ours = sample(found, world.model(), STEPS)
    assert world.evaluations["u"] == 5 * 2  # steps 0 and 2 of 8
    cfg = ClassifierFreeGuidance(CfgSettings(guidance_scale=3))
    for a, b in zip(ours[: STEPS // 2], sample(cfg, world.model(), STEPS), strict=False):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("steps", "unconditional"), [(1, 0), (2, 5), (5, 5), (9, 10), (20, 25)])
def test_a_quarter_of_the_steps_keeps_both_branches(steps: int, unconditional: int) -> None:
    world = World(FlowMatching())
    found = learned(world.model(), steps)
    world.evaluations.clear()
    sample(found, world.model(), steps)
    assert world.evaluations["u"] == unconditional


def test_the_regression_is_the_least_squares_solution() -> None:
    rows = torch.randn(6, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    coefficients, errors = regress(rows @ rows.T)
    for step in range(3):
        known, sought = rows[: 2 * step + 1].T, rows[2 * step + 1]
        expected = torch.linalg.lstsq(known, sought[:, None]).solution[:, 0]
        torch.testing.assert_close(coefficients[step, : 2 * step + 1], expected)
        assert not coefficients[step, 2 * step + 1 :].any()
        left = (sought - known @ expected).square().sum() / sought.square().sum()
        assert errors[step] == pytest.approx(left.item())


def test_samples_are_independent() -> None:
    assert_samples_are_independent(learned(World(FlowMatching()).model(), 6), FlowMatching())


def test_a_scale_of_1_is_conditional() -> None:
    world = World(FlowMatching())
    found = learned(world.model(), guidance_scale=1)
    world.evaluations.clear()
    sample(found, world.model(), STEPS)
    assert world.evaluations == {"c": 5 * STEPS, "u": 0}


def test_another_number_of_steps_is_refused() -> None:
    world = World(FlowMatching())
    with pytest.raises(UserError, match="learned to sample in 8 steps, but 10 are asked for"):
        sample(learned(world.model()), world.model(), 10)


def test_what_is_learned_belongs_to_a_number_of_steps() -> None:
    chosen = plan(method="grasp", task="digits-lt", budget="smoke")
    chosen = replace(chosen, guidance=LinearAdaptiveGuidance(LinearSettings()))
    budget = chosen.spec.budget.model_copy(update={"num_inference_steps": 7})
    other = replace(chosen, spec=chosen.spec.model_copy(update={"budget": budget}))
    assert stage_keys(chosen)["train"] == stage_keys(other)["train"]
    assert stage_keys(chosen)["guide"] != stage_keys(other)["guide"]
