"""CFG++ as a weight a step, against its own form: a guided image, noised again with the unconditional noise."""

import pytest
import torch
from diffusers.schedulers import DDIMScheduler
from gaussian_world import (
    NOISE,
    NULL_MEAN,
    OBJECTIVES,
    World,
    assert_samples_are_independent,
    exact,
    noise_estimate,
    step_at,
)

from grasp_bench.contracts.guidance import SamplingStep
from grasp_bench.contracts.objective import FlowMatching, VariancePreserving
from grasp_bench.guidances.cfg import CfgSettings, ClassifierFreeGuidance
from grasp_bench.guidances.plus import ClassifierFreeGuidancePlus, PlusSettings, step_weight


def guidance(scale: float) -> ClassifierFreeGuidancePlus:
    return ClassifierFreeGuidancePlus(PlusSettings(guidance_scale=scale))


def split_form(world: World, step: SamplingStep, scale: float) -> torch.Tensor:
    """Where a step of the paper's form ends."""
    t, objective = step.timesteps, world.objective
    conditional, unconditional = world.model().both(NOISE, t)
    clean = objective.clean(NOISE, unconditional + scale * (conditional - unconditional), t)
    return objective.add_noise(clean, noise_estimate(objective, NOISE, unconditional, t), step.next_timesteps)


@pytest.mark.parametrize("scale", [0.3, 1.0])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_first_order_step_is_the_papers(name: str, scale: float) -> None:
    world, step = World(OBJECTIVES[name]), step_at(OBJECTIVES[name])
    prediction = guidance(scale).predict(world.model(), NOISE, step)
    assert world.evaluations == {"c": 5, "u": 5}
    clean = world.objective.clean(NOISE, prediction, step.timesteps)
    noise = noise_estimate(world.objective, NOISE, prediction, step.timesteps)
    got = world.objective.add_noise(clean, noise, step.next_timesteps)
    torch.testing.assert_close(got, split_form(world, step, scale))


def test_a_step_of_diffusers_ddim_is_the_papers() -> None:
    scheduler = DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(10)
    world = World(VariancePreserving.of(scheduler))
    times = world.objective.levels(scheduler)[:, None].expand(-1, len(NOISE))
    for index in (0, 5):
        step = SamplingStep(index, 10, times[index], times[index + 1], {}, [])
        prediction = guidance(0.6).predict(world.model(), NOISE, step)
        got = scheduler.step(prediction, scheduler.timesteps[index], NOISE, return_dict=False)[0]
        torch.testing.assert_close(got, split_form(world, step, 0.6), rtol=1e-5, atol=1e-5)  # it computes in float32


def test_a_scale_of_0_is_unconditional_at_one_evaluation() -> None:
    world, step = World(FlowMatching()), step_at(FlowMatching())
    got = guidance(0).predict(world.model(), NOISE, step)
    assert torch.equal(got, exact(world.objective, NOISE, step.timesteps, NULL_MEAN))
    assert world.evaluations == {"c": 0, "u": 5}


def test_in_a_single_step_it_is_cfg() -> None:
    ends = torch.ones(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    step = SamplingStep(0, 1, *ends, {}, [])
    cfg = ClassifierFreeGuidance(CfgSettings(guidance_scale=0.6))
    ours, theirs = (each.predict(World(FlowMatching()).model(), NOISE, step) for each in (guidance(0.6), cfg))
    assert torch.equal(ours, theirs)


def test_the_weight_is_one_at_the_ends_and_grows_with_the_steps_in_the_middle() -> None:
    times = torch.linspace(1, 0, 41, dtype=torch.float64)
    weights = step_weight(times[:-1], times[1:])
    torch.testing.assert_close(weights[[0, -1]], torch.ones(2, dtype=torch.float64))
    assert weights.max().item() == pytest.approx(40 / 4, rel=0.06)


def test_samples_are_independent() -> None:
    assert_samples_are_independent(guidance(0.6), OBJECTIVES["velocity"])
