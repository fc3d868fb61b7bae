"""Self-guided minority sampling: the displacement that a first-order sampler makes, and which way it goes."""

from dataclasses import replace

import pytest
import torch
from gaussian_world import (
    ALPHAS,
    MEANS,
    NOISE,
    OBJECTIVES,
    SAMPLES,
    SHAPE,
    Mixture,
    World,
    noise_estimate,
)

from grasp_bench.contracts.guidance import Model, SamplingStep
from grasp_bench.contracts.objective import FlowMatching, Objective
from grasp_bench.guidances.minority import MinorityGuidance, MinoritySettings, displacement

EACH_OBJECTIVE = pytest.mark.parametrize("name", OBJECTIVES)
FIRST = torch.linspace(999, 400, SAMPLES).long()  # of DDPM's schedule
AGAIN = 0.9


def streams(samples: slice = slice(None)) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(SAMPLES)][samples]


def step_of(objective: Objective, samples: slice = slice(None)) -> SamplingStep:
    t = torch.linspace(0.95, 0.3, SAMPLES, dtype=torch.float64)
    following = t - 0.1
    if not isinstance(objective, FlowMatching):
        t, following = objective.shares[FIRST], objective.shares[FIRST - 20]
    return SamplingStep(0, 10, t[samples], following[samples], {}, streams(samples))


def guidance(**settings: float) -> MinorityGuidance:
    return MinorityGuidance(MinoritySettings(**{"renoise_timestep": AGAIN} | settings))


def follow(objective: Objective, prediction: torch.Tensor, step: SamplingStep) -> torch.Tensor:
    """One step of a first-order sampler from ``NOISE``."""
    clean = objective.clean(NOISE, prediction, step.timesteps)
    noise = noise_estimate(objective, NOISE, prediction, step.timesteps)
    return objective.add_noise(clean, noise, step.next_timesteps)


def distance(model: Model, latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of each estimate and its second estimate, on the same noise: (B,)."""
    objective, again = model.objective, torch.full_like(timesteps, AGAIN)
    clean = objective.clean(latents, model.conditional(latents, timesteps), timesteps)
    noise = torch.stack([torch.randn(SHAPE, generator=stream) for stream in streams()]).double()
    noisy = objective.add_noise(clean, noise, again)
    return (clean - objective.clean(noisy, model.conditional(noisy, again), again)).square().flatten(1).mean(1)


def displaced(world: World, scale: float) -> torch.Tensor:
    """How far the next state is from that without guidance: (B, ...)."""
    step, model = step_of(world.objective), world.model()
    guided = guidance(guidance_scale=scale).predict(model, NOISE, step)
    unguided = model.conditional(NOISE, step.timesteps)
    return follow(world.objective, guided, step) - follow(world.objective, unguided, step)


@EACH_OBJECTIVE
def test_it_goes_where_the_estimate_and_its_second_estimate_part(name: str) -> None:
    """On a Gaussian the gradient is a positive multiple of x̂ - x̂', since x̂ is linear in x_t."""
    objective, world = OBJECTIVES[name], World(OBJECTIVES[name])
    moved = displaced(world, 0.7)
    step, model = step_of(objective), world.model()
    clean = objective.clean(NOISE, model.conditional(NOISE, step.timesteps), step.timesteps)
    noise = torch.stack([torch.randn(SHAPE, generator=stream) for stream in streams()]).double()
    t = torch.full_like(step.timesteps, AGAIN)
    noisy = objective.add_noise(clean, noise, t)
    apart = clean - objective.clean(noisy, model.conditional(noisy, t), t)
    direction = moved / moved.abs().amax((1, 2, 3), keepdim=True)
    torch.testing.assert_close(direction, apart / apart.abs().amax((1, 2, 3), keepdim=True), rtol=1e-4, atol=1e-4)
    away = (moved * (clean - MEANS)).sum((1, 2, 3))  # from the mean; where much is noise, the estimate is the mean
    assert (away[step.timesteps < 0.8] > 0).all()


@EACH_OBJECTIVE
@pytest.mark.parametrize("kind", [World, Mixture])
def test_after_a_small_step_the_second_estimate_is_further_away(name: str, kind: type[World] | type[Mixture]) -> None:
    """On a mixture, too, whose gradient has another direction than the difference of the estimates."""
    objective, model = OBJECTIVES[name], kind(OBJECTIVES[name]).model()
    found = []
    for scale in (0.0, 0.001, 0.05):
        step = step_of(objective)
        state = follow(objective, guidance(guidance_scale=scale).predict(model, NOISE, step), step)
        found.append(distance(model, state, step.next_timesteps))
    assert (found[1] > found[0]).all()
    assert (found[2] > found[1]).all()


@pytest.mark.parametrize("name", ["noise", "velocity"])
def test_the_largest_displacement_is_ddpms_variance(name: str) -> None:
    step = step_of(OBJECTIVES[name])
    now, following = ALPHAS[FIRST].double(), ALPHAS[FIRST - 20].double()
    variance = (1 - following) / (1 - now) * (1 - now / following)  # Ho et al. 2020, equation 7
    found = displaced(World(OBJECTIVES[name]), 0.7).abs().amax((1, 2, 3))
    torch.testing.assert_close(found, 0.7 * variance, rtol=1e-5, atol=1e-5)
    shares = (following.sqrt() + (1 - following).sqrt()) * displacement(step.timesteps, step.next_timesteps)
    torch.testing.assert_close(shares, variance)


def test_under_flow_matching_it_is_that_of_a_rescaled_state() -> None:
    step = step_of(FlowMatching())
    found = displaced(World(FlowMatching()), 0.7).abs().amax((1, 2, 3))
    torch.testing.assert_close(found, 0.7 * displacement(step.timesteps, step.next_timesteps))


def test_where_the_estimate_does_not_depend_on_the_state_nothing_moves() -> None:
    world = World(FlowMatching())
    t = torch.ones(SAMPLES, dtype=torch.float64)
    step = replace(step_of(world.objective), timesteps=t, next_timesteps=t - 0.1)
    got = guidance().predict(world.model(), NOISE, step)
    torch.testing.assert_close(got, world.model().conditional(NOISE, t))


def test_displacement_is_finite_from_pure_noise_and_none_into_the_image() -> None:
    t = torch.tensor([1.0, 1.0, 0.5])
    following = torch.tensor([0.9, 0.0, 0.0])
    found = displacement(t, following)
    torch.testing.assert_close(found, torch.tensor([0.81 / 0.82**0.5, 0.0, 0.0]))


@pytest.mark.parametrize(
    ("settings", "index", "end", "evaluations"),
    [
        ({}, 0, False, 2),
        ({}, 5, False, 2),
        ({}, 3, False, 1),
        ({"every": 1}, 3, False, 2),
        ({}, 0, True, 1),
        ({"guidance_scale": 0}, 0, False, 1),
    ],
)
def test_it_costs_a_second_evaluation_where_it_acts_and_nothing_elsewhere(
    settings: dict[str, float], index: int, end: bool, evaluations: int
) -> None:
    world = World(FlowMatching())
    step = replace(step_of(world.objective), index=index)
    if end:
        step = replace(step, next_timesteps=torch.zeros_like(step.timesteps))
    with torch.no_grad():
        got = guidance(**settings).predict(world.model(), NOISE, step)
    assert world.evaluations == {"c": SAMPLES * evaluations, "u": 0}
    assert torch.equal(got, world.model().conditional(NOISE, step.timesteps)) == (evaluations == 1)
    assert not got.requires_grad


@EACH_OBJECTIVE
def test_samples_are_independent(name: str) -> None:
    objective = OBJECTIVES[name]
    together = guidance().predict(World(objective).model(), NOISE, step_of(objective))
    for number in range(SAMPLES):
        one = slice(number, number + 1)
        alone = guidance().predict(World(objective).model(one), NOISE[one], step_of(objective, one))
        torch.testing.assert_close(alone, together[one])
