"""Classifier guidance: where the estimate of the clean image goes, and what no gradient flows through."""

import math

import pytest
import torch
from gaussian_world import (
    COMPONENTS,
    MEANS,
    NOISE,
    OBJECTIVES,
    SAMPLES,
    STD,
    Mixture,
    World,
    amplitudes,
    assert_samples_are_independent,
    draw,
    sample,
    step_at,
)
from torch import nn

from grasp_bench.contracts.method import Condition
from grasp_bench.contracts.objective import FlowMatching
from grasp_bench.guidances.classifier import ClassifierGuidance, ClassifierGuidanceSettings
from grasp_bench.guidances.moved_estimate import smooth

EACH_OBJECTIVE = pytest.mark.parametrize("name", OBJECTIVES)


def guided_by(classify, **settings: float) -> ClassifierGuidance:
    guidance = ClassifierGuidance(ClassifierGuidanceSettings(**settings))
    guidance.classify, guidance.decode = classify, lambda latents: latents
    return guidance


def bayes(images: torch.Tensor) -> torch.Tensor:
    """Logits of the exact posterior of as many Gaussians as there are classes."""
    return -(images[:, None] - MEANS).square().flatten(2).sum(2) / 20


def bayes_of_components(images: torch.Tensor) -> torch.Tensor:
    """Logits of the exact posterior of a mixture's components."""
    return -(images[:, None] - COMPONENTS).square().flatten(2).sum(2) / (2 * STD**2)


def rms(values: torch.Tensor) -> torch.Tensor:
    return values.square().mean((1, 2, 3), keepdim=True).sqrt()


@EACH_OBJECTIVE
def test_under_a_linear_classifier_all_estimates_of_a_class_go_its_way_by_the_schedule(name: str) -> None:
    objective, rows = OBJECTIVES[name], draw(SAMPLES, 16, seed=3)
    guidance = guided_by(lambda images: images.flatten(1) @ rows.T, guidance_scale=0.2, other_temperature=0)
    model, step = World(objective).model(), step_at(objective)
    t = step.timesteps
    clean = objective.clean(NOISE, model.conditional(NOISE, t), t)
    moved = objective.clean(NOISE, guidance.predict(model, NOISE, step), t) - clean
    schedule = 0.2 * (t + 0.3 * (math.pi * t).sin()).reshape(-1, 1, 1, 1)
    way = rows.reshape(NOISE.shape)
    torch.testing.assert_close(moved, schedule * rms(clean) * way / rms(way), rtol=1e-6, atol=1e-6)


@EACH_OBJECTIVE
def test_the_own_class_becomes_likelier(name: str) -> None:
    objective = OBJECTIVES[name]
    model, step = World(objective, std=3.0).model(), step_at(objective)
    t = step.timesteps
    found = guided_by(bayes, guidance_scale=0.02, other_temperature=1).predict(model, NOISE, step)  # log posterior
    posteriors = [
        bayes(objective.clean(NOISE, prediction, t)).softmax(1).diagonal()
        for prediction in (model.conditional(NOISE, t), found)
    ]
    assert (posteriors[1] > posteriors[0]).all()


@EACH_OBJECTIVE
@pytest.mark.parametrize("wanted", [0, 1])
def test_from_the_field_without_a_condition_it_leads_to_the_wanted_component(name: str, wanted: int) -> None:
    model = Mixture(OBJECTIVES[name]).model(wanted)
    likely = []
    for scale in (0.0, 0.1, 1.0):
        guidance = guided_by(bayes_of_components, guidance_scale=scale, other_temperature=1)
        likely.append(bayes_of_components(sample(guidance, model, steps=20)[-1]).softmax(1)[:, wanted])
    assert likely[0].min() < 0.5 < likely[0].max()  # without guidance it is either
    assert (likely[1] > likely[0]).all()
    assert (likely[2] > 0.9).all()


@EACH_OBJECTIVE
@pytest.mark.parametrize("wanted", [0, 1])
def test_by_the_size_of_bayes_correction_it_makes_the_exact_conditional_field(name: str, wanted: int) -> None:
    """Of two components the posterior's gradient at the estimate points as that at the noisy state: see Dhariwal &
    Nichol 2021, arXiv 2105.05233, section 4.2, whose correction of the estimate is s² / a times the latter.
    """
    objective, mixture = OBJECTIVES[name], Mixture(OBJECTIVES[name])
    model, step = mixture.model(wanted), step_at(objective)
    t, noisy = step.timesteps, NOISE.clone().requires_grad_()
    unconditional, conditional = mixture.model().conditional(NOISE, t), mixture.of_component(NOISE, t, wanted)
    clean = objective.clean(NOISE, unconditional, t)
    (gradient,) = torch.autograd.grad(mixture.posterior(noisy, t)[:, wanted].log().sum(), noisy)
    a, s = amplitudes(objective, t)
    chosen = t < 1  # where there is some signal
    correction = (s**2 / a * gradient)[chosen]
    torch.testing.assert_close((objective.clean(NOISE, conditional, t) - clean)[chosen], correction)

    size = rms(objective.clean(NOISE, conditional, t) - clean).flatten()
    scales = size / (rms(clean).flatten() * (t + 0.3 * (math.pi * t).sin()))
    for row, scale in enumerate(scales.tolist()):
        guidance = guided_by(bayes_of_components, guidance_scale=scale, other_temperature=1)
        torch.testing.assert_close(guidance.predict(model, NOISE, step)[row], conditional[row])


def test_at_scale_0_no_classifier_is_asked() -> None:
    def refuse(images: torch.Tensor) -> torch.Tensor:
        raise AssertionError

    world = World(FlowMatching())
    step = step_at(world.objective)
    got = guided_by(refuse, guidance_scale=0).predict(world.model(), NOISE, step)
    assert world.evaluations == {"c": SAMPLES, "u": 0}
    assert torch.equal(got, world.model().conditional(NOISE, step.timesteps))


def test_no_gradient_flows_through_the_network_and_no_graph_is_left() -> None:
    world, recording = World(FlowMatching()), list[bool]()

    def network(x: torch.Tensor, condition: Condition) -> torch.Tensor:
        recording.append(torch.is_grad_enabled())
        return world.network(x, condition)

    model, step = world.model().on(network), step_at(world.objective)
    with torch.no_grad():
        got = guided_by(bayes).predict(model, NOISE, step)
    assert recording == [False]
    assert not got.requires_grad
    assert world.evaluations == {"c": SAMPLES, "u": 0}


@EACH_OBJECTIVE
def test_an_indifferent_classifier_changes_nothing(name: str) -> None:
    model, step = World(OBJECTIVES[name]).model(), step_at(OBJECTIVES[name])
    got = guided_by(lambda images: images.flatten(1)[:, :SAMPLES] * 0).predict(model, NOISE, step)
    torch.testing.assert_close(got, model.conditional(NOISE, step.timesteps))


@EACH_OBJECTIVE
def test_samples_are_independent(name: str) -> None:
    assert_samples_are_independent(guided_by(bayes), OBJECTIVES[name])


def test_every_relu_becomes_a_softplus() -> None:
    layers = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True)))
    x = torch.linspace(-2, 2, 6).reshape(2, 3)
    with torch.no_grad():
        sharp = layers(x)
        smooth(layers, beta=2.0)
        hidden = (1 + (2 * layers[0](x)).exp()).log() / 2
        torch.testing.assert_close(layers(x), (1 + (2 * layers[2][0](hidden)).exp()).log() / 2)
    assert not torch.equal(layers(x), sharp)
    assert not any(isinstance(module, nn.ReLU) for module in layers.modules())
