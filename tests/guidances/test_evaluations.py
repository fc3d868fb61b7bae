"""How many steps a guidance takes within so many network evaluations, by the networks' own count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import workshops

from grasp_bench import plugins
from grasp_bench.contracts.guidance import Guidance, Workshop
from grasp_bench.contracts.settings import Settings
from grasp_bench.errors import UserError
from grasp_bench.guidances.attribute import AttributeGuidance
from grasp_bench.guidances.distilled import DistilledGuidance
from grasp_bench.guidances.experts import ExpertGuidance
from grasp_bench.guidances.image_classifier import ImageClassifier
from grasp_bench.guidances.linear import LinearAdaptiveGuidance
from grasp_bench.guidances.moved_estimate import MovedEstimate
from grasp_bench.guidances.weak import Autoguidance
from grasp_bench.run.plan import plan
from grasp_bench.sampling import Network, Sampler

PER_STEP = [
    ("none", {}, 1),
    ("cfg", {}, 2),
    ("cfg", {"guidance_scale": 1}, 1),
    ("cfg", {"guidance_scale": 0}, 1),
    ("cfg++", {}, 2),
    ("cfg++", {"guidance_scale": 0}, 1),
    ("apg", {}, 2),
    ("apg", {"guidance_scale": 1}, 1),
    ("fa-cfg", {}, 2),
    ("fa-cfg", {"low_scale": 1, "high_scale": 1}, 1),
    ("fa-cfg", {"low_scale": 0, "high_scale": 0}, 1),
    ("pag", {}, 3),
    ("pag", {"guidance_scale": 1}, 2),
    ("pag", {"pag_scale": 0}, 2),
    ("sparse", {}, 2),
    ("sparse", {"guidance_scale": 1}, 1),
    ("sparse", {"guidance_scale": 0}, 1),
    ("sparse", {"strong_ratio": 0, "weak_ratio": 0}, 1),
    ("sparse", {"strong_ratio": 0, "weak_ratio": 0, "weak_prompt": "null"}, 2),
    ("autoguidance", {}, 2),
    ("autoguidance", {"guidance_scale": 0}, 1),
    ("adapter-off", {}, 2),
    ("adapter-off", {"guidance_scale": 1}, 1),
    ("adapter-off", {"base_scale": 2}, 3),
    ("adapter-off", {"base_scale": 2, "guidance_scale": 0}, 3),
    ("adapter-off", {"base_scale": 2, "guidance_scale": 1}, 2),
    ("sparse", {"base_scale": 2}, 3),
    ("sparse", {"base_scale": 2, "guidance_scale": 1}, 2),
    ("classifier", {"base_scale": 2}, 2),
    ("gfcg", {"base_scale": 2, "from_timestep": 1}, 3),
    ("gfcg", {"base_scale": 2, "max_scale": 1}, 2),
    ("classifier", {}, 1),
    ("attribute", {}, 2),
    ("attribute", {"guidance_scale": 1}, 1),
    ("cascade", {}, 2),
    ("cascade", {"stages": 1}, 2),
    ("ppap", {}, 1),
    ("ppap", {"base_scale": 2}, 2),
    ("ltg", {}, 1),
    ("ltg", {"base_scale": 2}, 2),
    ("distilled", {}, 1),
    # at their worst: no two predictions are alike enough, every step is in the interval or late enough
    ("adaptive", {"threshold": 2}, 2),
    ("adaptive", {"guidance_scale": 1}, 1),
    ("cfg-interval", {"lower": 0, "upper": 1}, 2),
    ("cfg-interval", {"lower": 0.5, "upper": 0.5}, 1),
    ("cfg-interval", {"guidance_scale": 1}, 1),
    ("gfcg", {"from_timestep": 1}, 2),
    ("gfcg", {"from_timestep": 0}, 1),
    ("gfcg", {"max_scale": 1}, 1),
]
"""Guidance, settings, evaluations per step."""
UNEVEN = [
    ("linear-ag", {}, {1: 1, 2: 1, 3: 2, 6: 5, 7: 5, 10: 8, 11: 9, 12: 9}),
    ("linear-ag", {"guidance_scale": 1}, {1: 1, 10: 10}),
    ("sg-minority", {}, {1: 1, 2: 1, 3: 2, 10: 8}),
    ("sg-minority", {"every": 1}, {1: 1, 2: 1, 3: 2, 10: 5}),
    ("sg-minority", {"guidance_scale": 0}, {1: 1, 10: 10}),
    ("sg-minority", {"base_scale": 2}, {2: 1, 3: 1, 5: 2, 10: 4}),
]
"""Guidance, settings, evaluations → steps."""
EVERY = [(name, settings, {6: 6 // each, 10: 10 // each}) for name, settings, each in PER_STEP] + UNEVEN


def make(name: str, settings: dict[str, Any]) -> Guidance[Settings]:
    kind = plugins.load("guidance", name)
    return kind(kind.Config(**settings))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return workshops.workshop(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def spent(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Callable[[Guidance[Settings], int], float]:
    """A guidance and a number of steps → evaluations of all networks for each of two images."""
    monkeypatch.setattr(Autoguidance, "weak_weights", lambda *arguments: {})

    def sample(guidance: Guidance[Settings], steps: int) -> float:
        sampler = Sampler(shop.backbone, shop.method, guidance, shop.device)

        def second(weights: object) -> Network:
            sampler.networks.append(Network(shop.backbone, shop.method, shop.device))
            return sampler.networks[-1]

        get_ready(guidance, replace(shop, second=second), steps)
        streams = [torch.Generator().manual_seed(seed) for seed in range(2)]
        noise = torch.stack([torch.randn(shop.backbone.latent_shape, generator=stream) for stream in streams])
        prompts = [info.prompt for info in shop.task.classes()[:2]]
        try:
            sampler.denoise(noise, prompts, torch.arange(2), steps, streams)
        finally:
            if isinstance(guidance, DistilledGuidance):
                guidance.adapters.remove()
        return sampler.evaluations / 2

    return sample


def get_ready(guidance: Guidance[Settings], shop: Workshop, steps: int) -> None:
    """As :meth:`Guidance.prepare` does, without learning: what was learned changes no count."""
    if not guidance.learns:
        guidance.prepare(shop, None)
    elif isinstance(guidance, LinearAdaptiveGuidance):
        guidance.count, guidance.coefficients = steps, torch.zeros(steps // 2, 2 * (steps // 2))
    elif isinstance(guidance, AttributeGuidance):
        guidance.basis, guidance.sizes = torch.zeros(1, 64), torch.zeros(10)
    elif isinstance(guidance, DistilledGuidance):
        guidance.adapters = guidance._attach(shop)
    else:
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10, dtype=torch.float64))
        guidance.classify = ImageClassifier(network, guidance.config.recipe)
        guidance.ensemble = [guidance.classify] * guidance.members
        guidance.experts, guidance.above = guidance.ensemble, torch.tensor([])
        with_gradient = isinstance(guidance, MovedEstimate | ExpertGuidance)
        guidance.decode = shop.backbone.decode if with_gradient else shop.backbone.decode_latents
        guidance.prompts = shop.embed([info.prompt for info in shop.task.classes()])


def test_every_guidance_is_here() -> None:
    ours = {name for name, entry in plugins.entries("guidance").items() if entry.value.startswith("grasp_bench.")}
    assert ours == {name for name, *_ in EVERY}


@pytest.mark.parametrize(("name", "settings", "expected"), EVERY, ids=lambda each: str(each).replace(" ", ""))
def test_so_many_steps_fit_and_one_more_does_not(
    spent: Callable[[Guidance[Settings], int], float], name: str, settings: dict[str, Any], expected: dict[int, int]
) -> None:
    guidance = make(name, settings)
    assert {evaluations: guidance.steps_within(evaluations) for evaluations in expected} == expected
    for evaluations, steps in expected.items():
        assert spent(guidance, steps) <= evaluations < spent(guidance, steps + 1)


@pytest.mark.parametrize(("name", "settings"), [("adaptive", {}), ("cfg-interval", {}), ("gfcg", {})])
def test_what_depends_on_the_way_stays_below(
    spent: Callable[[Guidance[Settings], int], float], name: str, settings: dict[str, Any]
) -> None:
    guidance = make(name, settings)
    assert 10 < spent(guidance, guidance.steps_within(20)) <= 20


def test_without_a_limit_the_budget_says_how_many_steps() -> None:
    budget = plan(method="grasp", task="digits-lt").spec.budget
    guidance = make("cfg", {})
    assert guidance.steps(budget) == budget.num_inference_steps == 20
    assert guidance.steps(budget.model_copy(update={"evaluations": 11})) == 5


def test_a_guidance_that_does_not_say_what_a_step_takes_is_named() -> None:
    with pytest.raises(UserError, match=r"guidance Guidance does not say .* evaluations_per_step"):
        Guidance(Settings()).steps_within(10)
