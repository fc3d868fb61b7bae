"""Adaptive projected guidance: its parts, its limits, and diffusers' guider in the paper's form."""

import pytest
import torch
from diffusers.guiders import AdaptiveProjectedGuidance as DiffusersGuidance
from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer
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

from grasp_bench.contracts.guidance import Model, SamplingStep
from grasp_bench.guidances.apg import AdaptiveProjectedGuidance, ProjectedSettings, along, bounded


def guidance(**settings: float) -> AdaptiveProjectedGuidance:
    return AdaptiveProjectedGuidance(ProjectedSettings(**settings))


def at_reference(norm: float) -> float:
    """The threshold for SDXL's latents that is ``norm`` for those of the Gaussian world."""
    return norm * (65536 / NOISE[0].numel()) ** 0.5


@pytest.mark.parametrize("name", OBJECTIVES)
def test_with_nothing_taken_away_it_is_the_field_of_the_extrapolated_mean(name: str) -> None:
    world, step = World(OBJECTIVES[name]), step_at(OBJECTIVES[name])
    neutral = guidance(guidance_scale=3, eta=1, norm_threshold=0, momentum=0)
    mean = NULL_MEAN + 3 * (MEANS - NULL_MEAN)
    got = neutral.predict(world.model(), NOISE, step)
    torch.testing.assert_close(got, exact(world.objective, NOISE, step.timesteps, mean))
    assert world.evaluations == {"c": 5, "u": 5}


def test_a_scale_of_1_is_conditional_at_one_evaluation() -> None:
    world, step = World(OBJECTIVES["flow"]), step_at(OBJECTIVES["flow"])
    got = guidance(guidance_scale=1).predict(world.model(), NOISE, step)
    assert torch.equal(got, exact(world.objective, NOISE, step.timesteps, MEANS))
    assert world.evaluations == {"c": 5, "u": 0}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_it_adds_to_the_image_is_orthogonal_to_it_and_bounded(name: str) -> None:
    world, step = World(OBJECTIVES[name]), step_at(OBJECTIVES[name])
    t = step.timesteps
    guided = guidance(guidance_scale=3, norm_threshold=at_reference(0.1)).predict(world.model(), NOISE, step)
    conditional = world.objective.clean(NOISE, world.model().conditional(NOISE, t), t).flatten(1)
    added = (world.objective.clean(NOISE, guided, t).flatten(1) - conditional) / 2
    torch.testing.assert_close((added * conditional).sum(1), torch.zeros(5, dtype=torch.float64))
    assert (added.norm(dim=1) <= 0.1 + 1e-9).all()
    assert (added.norm(dim=1) > 0.01).all()


def test_only_updates_that_are_too_long_are_bounded() -> None:
    update = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    assert torch.equal(bounded(update, 1.0), torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))


def test_the_part_along_a_direction() -> None:
    direction = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    assert torch.equal(along(torch.tensor([[3.0, 4.0], [3.0, 4.0]]), direction), torch.tensor([[3.0, 0.0], [0.0, 0.0]]))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_way_of_several_steps_is_that_of_diffusers_guider(name: str) -> None:
    """Its "original formulation", whose scale is ours less one, on estimates of x_0."""
    objective = OBJECTIVES[name]
    theirs = DiffusersGuidance(
        1.5,
        adaptive_projected_guidance_momentum=-0.5,
        adaptive_projected_guidance_rescale=0.4,
        eta=0.3,
        use_original_formulation=True,
    )
    theirs.momentum_buffer = MomentumBuffer(-0.5)

    class Theirs(AdaptiveProjectedGuidance):
        def predict(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> torch.Tensor:
            both = (objective.clean(latents, each, step.timesteps) for each in model.both(latents, step.timesteps))
            return objective.prediction(latents, theirs.forward(*both).pred, step.timesteps)

    ours = guidance(guidance_scale=2.5, momentum=-0.5, norm_threshold=at_reference(0.4), eta=0.3)
    ways = [sample(each, World(objective).model()) for each in (ours, Theirs(ours.config))]
    for a, b in zip(*ways, strict=True):
        torch.testing.assert_close(a, b)


def test_samples_are_independent() -> None:
    assert_samples_are_independent(guidance(norm_threshold=at_reference(0.5)), OBJECTIVES["noise"])
