"""Guidance in an interval, against the perfect network of Gaussian data."""

import pytest
import torch
from diffusers.guiders import ClassifierFreeGuidance as DiffusersGuidance
from gaussian_world import (
    MEANS,
    NOISE,
    NULL_MEAN,
    OBJECTIVES,
    World,
    assert_samples_are_independent,
    exact,
    sample,
    step_at,
)

from grasp_bench.contracts.guidance import SamplingStep
from grasp_bench.contracts.settings import Settings, parse_settings
from grasp_bench.errors import UserError
from grasp_bench.guidances.cfg import CfgSettings, ClassifierFreeGuidance, NoGuidance
from grasp_bench.guidances.interval import IntervalGuidance, IntervalSettings


def guidance(**settings: float) -> IntervalGuidance:
    return IntervalGuidance(IntervalSettings(**settings))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_extrapolated_mean_inside_and_the_conditional_one_outside(name: str) -> None:
    world, step = World(OBJECTIVES[name]), step_at(OBJECTIVES[name])
    t = step.timesteps
    got = guidance(guidance_scale=3, lower=t[3].item(), upper=t[1].item()).predict(world.model(), NOISE, step)
    mean = MEANS.clone()
    mean[1:3] = NULL_MEAN[1:3] + 3 * (MEANS - NULL_MEAN)[1:3]
    torch.testing.assert_close(got, exact(world.objective, NOISE, t, mean))
    assert world.evaluations == {"c": 5, "u": 2}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_its_limits_are_cfg_and_no_guidance(name: str) -> None:
    objective = OBJECTIVES[name]
    cfg, none = ClassifierFreeGuidance(CfgSettings(guidance_scale=3)), NoGuidance(Settings())
    for settings, same, unconditional in (
        ({"guidance_scale": 3, "lower": 0, "upper": 1}, cfg, 30),
        ({"guidance_scale": 3, "lower": 0.5, "upper": 0.5}, none, 0),
        ({"guidance_scale": 1, "lower": 0, "upper": 1}, none, 0),
    ):
        world = World(objective)
        for a, b in zip(
            sample(guidance(**settings), world.model()), sample(same, World(objective).model()), strict=True
        ):
            assert torch.equal(a, b)
        assert world.evaluations["u"] == unconditional
        assert world.evaluations["c"] == 30


def test_samples_are_independent() -> None:
    assert_samples_are_independent(guidance(), OBJECTIVES["noise"])


def test_on_an_even_grid_it_is_the_window_of_diffusers() -> None:
    """diffusers counts steps from the noise; ours are levels: the same where levels are even."""
    theirs = DiffusersGuidance(guidance_scale=3, start=0.25, stop=0.75)
    world, count = World(OBJECTIVES["flow"]), 8
    for index in range(count):
        t = torch.full((5,), 1 - index / count, dtype=torch.float64)
        step = SamplingStep(index, count, t, t - 1 / count, {}, [])
        theirs.set_state(index, count, t)
        expected = theirs.forward(*world.model().both(NOISE, t)).pred
        got = guidance(guidance_scale=3, lower=0.25, upper=0.75).predict(world.model(), NOISE, step)
        torch.testing.assert_close(got, expected)


def test_an_interval_that_is_upside_down_is_refused() -> None:
    with pytest.raises(UserError, match=r"lower=0\.9 is above upper=0\.2"):
        parse_settings(IntervalSettings, ["lower=0.9", "upper=0.2"], "guidance cfg-interval", {})
