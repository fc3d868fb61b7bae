"""Guidance by experts: on a mixture of Gaussians, where Bayes' rule is known, and what an expert learns."""

import re

import pytest
import timm
import torch
from gaussian_world import (
    COMPONENTS,
    NOISE,
    OBJECTIVES,
    SAMPLES,
    STD,
    Mixture,
    World,
    amplitudes,
    assert_samples_are_independent,
    draw,
    step_at,
)

from grasp_bench.contracts.guidance import SamplingStep
from grasp_bench.contracts.objective import FlowMatching, Objective
from grasp_bench.downstream.networks import small_cnn
from grasp_bench.guidances.experts import ExpertGuidance, PpapSettings, expert_of
from grasp_bench.guidances.teaching import learner, taught

EACH_OBJECTIVE = pytest.mark.parametrize("name", OBJECTIVES)


def guided_by(*experts, above: torch.Tensor, **settings: float) -> ExpertGuidance:
    guidance = ExpertGuidance(PpapSettings(**settings))
    guidance.experts, guidance.above, guidance.decode = list(experts), above, lambda latents: latents
    return guidance


def exact_experts(mixture: Mixture, timesteps: torch.Tensor, **settings: float) -> ExpertGuidance:
    """With an expert for every timestep (B,), which says Bayes' probabilities."""
    times = timesteps.sort().values
    experts = [lambda x, t=t: mixture.posterior(x, t.expand(len(x))).log() for t in times]
    return guided_by(*experts, above=times[1:], **settings)


def clean_classifier() -> torch.nn.Module:
    """Bayes' classifier of clean images, which is linear: the last of its layers, the other hands the images on."""
    classifier = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 16), torch.nn.Linear(16, 2)).double()
    with torch.no_grad():
        classifier[1].weight.copy_(torch.eye(16))
        classifier[1].bias.zero_()
        classifier[2].weight.copy_(COMPONENTS.flatten(1) / STD**2)
        classifier[2].bias.copy_(-COMPONENTS.flatten(1).square().sum(1) / (2 * STD**2))
    return classifier.requires_grad_(False)


def of_either(generator: torch.Generator) -> torch.Tensor:
    """Clean images of the mixture."""
    labels = torch.randint(2, (4096,), generator=generator)
    return COMPONENTS[labels] + STD * torch.randn(4096, *COMPONENTS.shape[1:], generator=generator).double()


def taught_on(
    timesteps: torch.Tensor,
    objective: Objective,
    classifier: torch.nn.Module,
    clean: torch.Tensor,
    generator: torch.Generator,
    *,
    steps: int = 400,
    batch_size: int = 256,
    learning_rate: float = 0.02,
) -> torch.nn.Module:
    """The expert of these timesteps, taught by the classifier's answers at clean images."""
    return taught(
        classifier,
        lambda network, noisy: network(noisy),
        clean,
        classifier(clean).softmax(1),
        timesteps,
        objective,
        rank=2,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        generator=generator,
        advance=lambda count: None,
    )


def shift(guidance: ExpertGuidance, mixture: Mixture, noisy: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """What guidance adds to the estimated clean image under the first component: (B, ...)."""
    model, step = mixture.model(0), SamplingStep(0, 8, timesteps, timesteps, {}, [])
    predictions = guidance.predict(model, noisy, step), model.conditional(noisy, timesteps)
    moved, plain = (mixture.objective.clean(noisy, each, timesteps) for each in predictions)
    return moved - plain


def test_an_expert_is_found_by_the_range_of_the_timestep() -> None:
    found = expert_of(torch.tensor([0.0, 0.29, 0.3, 0.5, 0.7, 1.0]), torch.tensor([0.3, 0.7]))
    assert found.tolist() == [0, 0, 1, 1, 2, 2]
    assert expert_of(torch.tensor([0.4]), torch.tensor([])).tolist() == [0]


@EACH_OBJECTIVE
@pytest.mark.parametrize("wanted", [0, 1])
def test_with_perfect_experts_the_field_without_a_condition_becomes_the_conditional_one(name: str, wanted: int) -> None:
    mixture, step = Mixture(OBJECTIVES[name]), step_at(OBJECTIVES[name])
    t = step.timesteps
    found = exact_experts(mixture, t).predict(mixture.model(wanted), NOISE, step)
    below = t < 1
    torch.testing.assert_close(found[below], mixture.of_component(NOISE, t, wanted)[below], rtol=1e-5, atol=1e-5)


@EACH_OBJECTIVE
def test_the_shift_is_in_proportion_to_the_scale(name: str) -> None:
    mixture, step = Mixture(OBJECTIVES[name]), step_at(OBJECTIVES[name])
    t, model = step.timesteps, mixture.model()
    plain = model.conditional(NOISE, t)
    once, twice = (exact_experts(mixture, t, guidance_scale=each).predict(model, NOISE, step) for each in (1, 2))
    torch.testing.assert_close(twice - plain, 2 * (once - plain))
    assert torch.equal(exact_experts(mixture, t, guidance_scale=0).predict(model, NOISE, step), plain)


@EACH_OBJECTIVE
def test_an_expert_learns_what_the_classifier_of_clean_images_cannot_say(name: str) -> None:
    """The posterior at one noise level is linear in x_t, too, but with other weights."""
    objective, classifier = OBJECTIVES[name], clean_classifier()
    mixture = Mixture(objective)
    generator = torch.Generator().manual_seed(0)
    clean = of_either(generator)
    t = torch.tensor([0.6], dtype=torch.float64)
    t = t if isinstance(objective, FlowMatching) else objective.shares[(objective.shares - t).abs().argmin()][None]
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    expert = taught_on(t, objective, classifier, clean, generator)
    noisy = objective.add_noise(clean, draw(*clean.shape, seed=9), t.expand(len(clean)))[:500]
    exact = torch.cat([mixture.posterior(part, t.expand(len(part))) for part in noisy.split(SAMPLES)])

    def divergence(network: torch.nn.Module) -> float:
        return (exact * (exact.log() - network(noisy).log_softmax(1))).sum(1).mean().item()

    assert divergence(expert) < 0.1 * divergence(classifier)
    assert expert.state_dict().keys() == before.keys()  # merged: nothing is left of the updates
    assert all(torch.equal(value, before[key]) for key, value in classifier.state_dict().items())


@pytest.mark.parametrize("name", ["flow", "noise"])
def test_experts_have_the_gradient_of_bayes_rule_in_every_range_where_one_classifier_of_all_noise_has_not(
    name: str,
) -> None:
    """With x_t = a x_0 + s e, ∇ log p(c | x_t) is a (μ_c - Σ p_k μ_k) / (a² σ² + s²) on the mixture."""
    objective, classifier = OBJECTIVES[name], clean_classifier()
    mixture, generator = Mixture(objective), torch.Generator().manual_seed(0)
    clean = of_either(generator)
    drawn = objective.timesteps(4096, generator).double().sort().values
    parts = drawn.tensor_split(4)
    how = {"steps": 200, "batch_size": 1024, "learning_rate": 0.01}
    experts = [taught_on(part, objective, classifier, clean, generator, **how) for part in parts]
    one = taught_on(drawn, objective, classifier, clean, generator, **how)
    bounds = torch.stack([part[0] for part in parts[1:]])
    several, single, untaught = (
        guided_by(*experts, above=bounds),
        guided_by(one, above=bounds[:0]),
        guided_by(classifier, above=bounds[:0]),
    )
    for part in parts:
        t = part[len(part) // 2].expand(SAMPLES)
        noisy = objective.add_noise(COMPONENTS[:1] + STD * NOISE, draw(*NOISE.shape, seed=9), t)
        a, s = amplitudes(objective, t)
        expected = (mixture.posterior(noisy, t)[:, :, None, None, None] * COMPONENTS).sum(1)
        exact = a / (a**2 * STD**2 + s**2) * (COMPONENTS[0] - expected)

        errors = [
            (a / s**2 * shift(each, mixture, noisy, t) - exact).square().mean() for each in (several, single, untaught)
        ]
        assert errors[0] < 0.5 * min(errors[1:])


@EACH_OBJECTIVE
def test_samples_are_independent_and_cost_one_evaluation(name: str) -> None:
    objective = OBJECTIVES[name]
    rows = draw(SAMPLES, 16, seed=3)
    experts = [lambda x, k=k: k * x.flatten(1) @ rows.T for k in (1, 2)]
    guidance = guided_by(*experts, above=torch.tensor([0.5]))
    assert_samples_are_independent(guidance, objective)
    world, step = World(objective), step_at(objective)
    guidance.predict(world.model(), NOISE, step)
    assert world.evaluations == {"c": SAMPLES, "u": 0}


RESNET, VIT = "test_resnet", "test_vit"
"""Small networks of timm's, of the kinds that PPAP's code knows."""


def a_network(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    built = small_cnn(3, 2) if name == "small-cnn" else timm.create_model(name, pretrained=False, num_classes=2)
    return built.requires_grad_(False).eval()


def moved(before: torch.nn.Module, after: torch.nn.Module) -> set[str]:
    """Names of the parameters and buffers of a network that are others than before."""
    old, new = before.state_dict(), after.state_dict()
    assert old.keys() == new.keys()
    return {name for name in old if not torch.equal(old[name], new[name])}


@pytest.mark.parametrize(
    ("name", "updated"),
    [
        (RESNET, r"conv1\.\d|layer\d\.\d\.conv[12]"),  # neither conv3 nor a shortcut
        (VIT, r"blocks\.\d\.attn\.(qkv|proj)"),  # neither patches nor feed-forward layers
        ("small-cnn", "[026]"),  # all but the last
    ],
)
def test_updates_stand_where_the_published_code_has_them(name: str, updated: str) -> None:
    network, expert = a_network(name), learner(a_network(name), 2).get_base_model()
    kinds = torch.nn.Linear | torch.nn.Conv2d
    layers = [each for each, module in network.named_modules() if isinstance(module, kinds)]
    found = [each for each in layers if hasattr(expert.get_submodule(each), "base_layer")]
    assert found == [each for each in layers if re.fullmatch(updated, each)]
    assert found


def test_an_expert_of_a_resnet_learns_updates_biases_scales_and_statistics_but_not_its_last_layer() -> None:
    network = a_network(RESNET)
    clean = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    expert = taught_on(
        torch.tensor([0.5]),
        FlowMatching(),
        network,
        clean,
        torch.Generator().manual_seed(0),
        steps=2,
        batch_size=4,
        learning_rate=0.01,
    )
    kernels = {f"{each}.weight" for each, module in network.named_modules() if isinstance(module, torch.nn.Conv2d)}
    norms = [each for each, module in network.named_modules() if isinstance(module, torch.nn.BatchNorm2d)]
    own = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    found = moved(network, expert)
    assert found - kernels == {f"{norm}.{each}" for norm in norms for each in own}
    assert found & kernels == {each for each in kernels if re.fullmatch(r"conv1\..*|.*\.conv[12]\..*", each)}
    assert not expert.training


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "convnext_atto"])
def test_kernels_of_grouped_convolutions_stay(name: str) -> None:
    """Of a rank that their groups do not divide, peft cannot update them, nor merge what it can."""
    network = a_network(name)
    convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    assert any(each.groups > 1 for each in convolutions)
    expert = learner(network, 3)
    updated = [module.base_layer for module in expert.modules() if hasattr(module, "base_layer")]
    assert updated
    assert all(getattr(each, "groups", 1) == 1 for each in updated)
    assert moved(network, expert.merge_and_unload()) == set()


def test_the_learning_rate_falls_linearly_to_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    rates, step = [], torch.optim.AdamW.step

    def noted(self: torch.optim.AdamW, *arguments: object) -> None:
        rates.extend(group["lr"] for group in self.param_groups)
        step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    generator = torch.Generator().manual_seed(0)
    taught_on(
        torch.tensor([0.5]),
        OBJECTIVES["flow"],
        clean_classifier(),
        of_either(generator),
        generator,
        steps=4,
        learning_rate=0.2,
    )
    assert rates == pytest.approx([0.2, 0.15, 0.1, 0.05])
