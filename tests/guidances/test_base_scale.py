"""Classifier-free guidance beneath guidances that build on the conditional prediction."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from gaussian_world import MEANS, NOISE, OBJECTIVES, SAMPLES, World, step_at

from grasp_bench import plugins
from grasp_bench.backbones.recipes import recipe_of
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.contracts.backbone import PromptEmbeddings
from grasp_bench.contracts.guidance import Guidance, Model, SamplingStep
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.guidances.cfg import CfgSettings, ClassifierFreeGuidance
from grasp_bench.guidances.classifier import ClassifierGuidance, ClassifierGuidanceSettings
from grasp_bench.guidances.gfcg import GfcgSettings, GradientFreeClassifierGuidance
from grasp_bench.guidances.minority import MinorityGuidance, MinoritySettings
from grasp_bench.guidances.sparse import SparseGuidance, SparseSettings
from grasp_bench.guidances.weak import AdapterOffGuidance, WeakSettings
from grasp_bench.run.plan import plan
from grasp_bench.run.recipes import guidance_defaults, searched_rates
from grasp_bench.sampling import Network
from grasp_bench.tuning.ranges import tuned_ranges

WITH_BASE = ("adapter-off", "autoguidance", "classifier", "gfcg", "ltg", "ppap", "sg-minority", "sparse")
BASE = 2.5
STEP = SamplingStep(0, 4, torch.tensor([0.9, 0.5, 0.2]), torch.tensor([0.8, 0.4, 0.1]), {}, [])


def weak(**settings: float) -> AdapterOffGuidance:
    found = AdapterOffGuidance(WeakSettings(**settings))
    found.weak = World(OBJECTIVES["flow"], std=1.0).network
    return found


def classifier(**settings: float) -> ClassifierGuidance:
    found = ClassifierGuidance(ClassifierGuidanceSettings(**settings))
    found.classify = lambda images: -(images[:, None] - MEANS).square().flatten(2).sum(2) / 20
    found.decode = lambda latents: latents
    return found


def gfcg(**settings: float) -> GradientFreeClassifierGuidance:
    """Its classifier always confuses a class with the next one; it is not asked at t = 1, where the first sample is."""
    found = GradientFreeClassifierGuidance(GfcgSettings(**settings))
    found.classify = lambda images: torch.eye(SAMPLES, dtype=torch.float64).roll(1, 1)[-len(images) :] * 5
    found.decode = lambda latents: latents
    found.prompts = PromptEmbeddings(torch.arange(SAMPLES)[:, None].double())
    return found


def minority(**settings: float) -> MinorityGuidance:
    return MinorityGuidance(MinoritySettings(**settings))


ACTIVE: dict[str, tuple[Callable[..., Guidance[Any]], dict[str, float], dict[str, float], int]] = {
    "adapter-off": (weak, {"guidance_scale": 2.0}, {"guidance_scale": 1}, SAMPLES),
    "classifier": (classifier, {}, {"guidance_scale": 0}, SAMPLES),
    "gfcg": (gfcg, {"from_timestep": 1.0}, {"max_scale": 1}, 2 * SAMPLES - 1),
    "sg-minority": (minority, {}, {"guidance_scale": 0}, 2 * SAMPLES),
}
"""Guidance, settings with which it acts, settings with which it does not, conditional evaluations with the first."""


def predicted(guidance: Guidance[Any], world: World) -> torch.Tensor:
    step = step_at(world.objective)
    streams = [torch.Generator().manual_seed(seed) for seed in range(SAMPLES)]
    step = SamplingStep(0, step.count, step.timesteps, step.next_timesteps, {}, streams)
    with torch.no_grad():
        return guidance.predict(world.model(), NOISE, step)


@pytest.mark.parametrize("name", ACTIVE)
def test_where_nothing_is_added_it_is_classifier_free_guidance(name: str) -> None:
    make, _, neutral, _ = ACTIVE[name]
    world = World(OBJECTIVES["flow"])
    got = predicted(make(base_scale=BASE, **neutral), world)
    assert world.evaluations == {"c": SAMPLES, "u": SAMPLES}
    cfg = ClassifierFreeGuidance(CfgSettings(guidance_scale=BASE))
    assert torch.equal(got, predicted(cfg, World(OBJECTIVES["flow"])))


@pytest.mark.parametrize("name", ["adapter-off", "gfcg", "sg-minority"])
def test_the_difference_of_classifier_free_guidance_is_added(name: str) -> None:
    """Not so for ``classifier``, whose gradient is that at the guided estimate."""
    make, active, _, evaluations = ACTIVE[name]
    world = World(OBJECTIVES["flow"])
    with_base, without = (predicted(make(base_scale=base, **active), world) for base in (BASE, 1.0))
    model, t = world.model(), step_at(world.objective).timesteps
    difference = model.conditional(NOISE, t) - model.unconditional(NOISE, t)
    torch.testing.assert_close(with_base - without, (BASE - 1) * difference)
    world = World(OBJECTIVES["flow"])
    predicted(make(base_scale=BASE, **active), world)
    assert world.evaluations == {"c": evaluations, "u": SAMPLES}


def test_the_classifier_is_asked_about_the_guided_estimate() -> None:
    seen: list[torch.Tensor] = []
    for make in (classifier, gfcg):
        guidance, world = make(base_scale=BASE, **ACTIVE[make.__name__][1]), World(OBJECTIVES["flow"])
        classify = guidance.classify
        guidance.classify = lambda images, classify=classify: seen.append(images.detach()) or classify(images)
        predicted(guidance, world)
    t = step_at(OBJECTIVES["flow"]).timesteps
    model = World(OBJECTIVES["flow"]).model()
    guided = ClassifierFreeGuidance(CfgSettings(guidance_scale=BASE)).predict(model, NOISE, step_at(model.objective))
    estimate = model.objective.clean(NOISE, guided, t)
    torch.testing.assert_close(seen[0], estimate)
    torch.testing.assert_close(seen[1] + 1, estimate[1:] / 127.5)


@torch.no_grad()
def test_sparse_predictions_with_and_without_a_prompt_leave_out_the_same_tokens() -> None:
    backbone = TinySD3.load()
    network = Network(backbone, Method(MethodSettings()), torch.device("cpu"))
    prompts, null = (backbone.encode_prompts(each) for each in (["zero", "one", "two"], [""] * 3))
    latents = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    model = Model(network, backbone.objective, torch.arange(3), prompts, null)

    def made(prompted: Model = model, **settings: float) -> torch.Tensor:
        guidance = SparseGuidance(SparseSettings(**settings))
        guidance.prepare(SimpleNamespace(backbone=backbone), None)
        streams = [torch.Generator().manual_seed(seed) for seed in range(3)]
        return guidance.predict(prompted, latents, SamplingStep(0, 4, STEP.timesteps, STEP.next_timesteps, {}, streams))

    strong = made(guidance_scale=1)
    unconditional = made(Model(network, backbone.objective, torch.arange(3), null, null), guidance_scale=1)
    torch.testing.assert_close(
        made(guidance_scale=1, base_scale=BASE), unconditional + BASE * (strong - unconditional), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(
        made(base_scale=BASE) - made(), (BASE - 1) * (strong - unconditional), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", WITH_BASE)
def test_it_is_searched_and_on_by_default_where_the_recipe_has_a_scale(name: str) -> None:
    kind = plugins.load("guidance", name)
    assert tuned_ranges(kind.Config)["base_scale"].low == 0.9
    assert list(tuned_ranges(kind.Config))[-1] == "base_scale"  # so that the values of others are what they were
    recipe, method = recipe_of("sd3.5-medium"), Method(MethodSettings())
    assert guidance_defaults(recipe, kind) == {"base_scale": recipe.guidance_scale}
    assert searched_rates(recipe, method, kind(kind.Config()), "guidance")["base_scale"].high > 6
    chosen = plan(method="lora", task="digits-lt", guidance=name)
    assert "base_scale" not in chosen.spec.guidance.settings  # so runs without it are the runs that they were
    more = plan(method="lora", task="digits-lt", guidance=name, guidance_settings=["base_scale=2"])
    assert more.spec.guidance.settings["base_scale"] == 2
    assert more.spec.id != chosen.spec.id
