"""Gradient-free classifier guidance: on Gaussians, the field that is pushed away from the class confused with it."""

import pytest
import torch
from gaussian_world import MEANS, NOISE, OBJECTIVES, SAMPLES, World, assert_samples_are_independent, exact, step_at

from grasp_bench.contracts.backbone import PromptEmbeddings
from grasp_bench.contracts.objective import FlowMatching, Objective
from grasp_bench.guidances.gfcg import GfcgSettings, GradientFreeClassifierGuidance, confusion

PROBABILITIES = torch.tensor([0.4, 0.05, 0.3, 0.15, 0.1], dtype=torch.float64)


def always(probabilities: torch.Tensor, **settings: float) -> GradientFreeClassifierGuidance:
    """The guidance with a classifier that says the same of every image."""
    return guided_by(lambda images: probabilities.log().expand(len(images), -1), **settings)


def guided_by(classify, **settings: float) -> GradientFreeClassifierGuidance:
    guidance = GradientFreeClassifierGuidance(GfcgSettings(**settings))
    guidance.classify = classify
    guidance.decode = lambda latents: ((latents + 1) * 127.5).round().clamp(0, 255).byte()
    guidance.prompts = PromptEmbeddings(torch.arange(SAMPLES)[:, None].double())
    return guidance


def by_pixels(images: torch.Tensor) -> torch.Tensor:
    """The likelihood of uint8 images, scaled back, under each class's mean."""
    assert images.min() >= -1
    assert images.max() <= 1
    return -(images.double()[:, None] - MEANS).square().flatten(2).sum(2)


def test_reference_is_the_likeliest_other_class_and_scale_its_share_of_the_two() -> None:
    probabilities = torch.tensor([[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.0, 0.0, 1.0], [0.25, 0.5, 0.25]])
    reference, scale = confusion(probabilities, torch.tensor([0, 2, 2, 1]), max_scale=4)
    assert reference[:2].tolist() == [1, 0]
    torch.testing.assert_close(scale, torch.tensor([2.0, 1 + 3 * 6 / 7, 1.0, 2.0]))
    ruled_out = confusion(torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([0]), max_scale=4)
    assert ruled_out[1].tolist() == [1.0]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_constant_classifier_makes_it_guidance_by_a_negative_class(name: str) -> None:
    objective, world = OBJECTIVES[name], World(OBJECTIVES[name])
    step = step_at(objective)
    got = always(PROBABILITIES, max_scale=5, from_timestep=1).predict(world.model(), NOISE, step)
    reference = torch.tensor([2, 0, 0, 0, 0])
    pair = PROBABILITIES[reference]
    scale = (1 + 4 * pair / (pair + PROBABILITIES)).reshape(-1, 1, 1, 1)
    expected = exact(objective, NOISE, step.timesteps, MEANS[reference] + scale * (MEANS - MEANS[reference]))
    chosen = step.timesteps < 1
    torch.testing.assert_close(got[chosen], expected[chosen])
    assert world.evaluations == {"c": SAMPLES + int(chosen.sum()), "u": 0}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_above_the_timestep_it_is_the_conditional_prediction_at_its_cost(name: str) -> None:
    objective, world = OBJECTIVES[name], World(OBJECTIVES[name])
    step = step_at(objective)
    threshold = float(step.timesteps[2])
    got = always(PROBABILITIES, from_timestep=threshold).predict(world.model(), NOISE, step)
    assert world.evaluations["c"] == SAMPLES + 2
    conditional = world.model().conditional(NOISE, step.timesteps)
    assert torch.equal(got[:3], conditional[:3])
    assert all((got[row] - conditional[row]).abs().max() > 1e-3 for row in (3, 4))


def test_at_scale_1_no_classifier_is_asked() -> None:
    def refuse(images: torch.Tensor) -> torch.Tensor:
        raise AssertionError

    world = World(FlowMatching())
    step = step_at(world.objective)
    got = guided_by(refuse, max_scale=1, from_timestep=1).predict(world.model(), NOISE, step)
    assert world.evaluations == {"c": SAMPLES, "u": 0}
    assert torch.equal(got, world.model().conditional(NOISE, step.timesteps))


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_samples_are_independent(objective: Objective) -> None:
    assert_samples_are_independent(guided_by(by_pixels, max_scale=3), objective)


def test_no_graph_is_built_though_network_and_classifier_are_trainable() -> None:
    world, weight, recording = World(FlowMatching()), torch.ones((), requires_grad=True), list[bool]()

    def noted(values: torch.Tensor) -> torch.Tensor:
        recording.append((weight * values).requires_grad)
        return weight * values

    model = world.model().on(lambda x, condition: noted(world.network(x, condition)))
    guidance, step = guided_by(lambda images: noted(by_pixels(images)), from_timestep=1), step_at(world.objective)
    with torch.no_grad():
        got = guidance.predict(model, NOISE, step)
    assert recording == [False] * 3  # the network under both classes, and the classifier
    assert not got.requires_grad
