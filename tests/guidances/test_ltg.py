"""Long-tail guidance: the disagreement of classifiers, and where its gradient leads."""

import math
from pathlib import Path

import pytest
import torch
from gaussian_world import NOISE, OBJECTIVES, SAMPLES, World, assert_samples_are_independent, draw, step_at
from workshops import workshop

from grasp_bench.guidances.disagreement import LongTailGuidance, LongTailSettings, disagreement

EACH_OBJECTIVE = pytest.mark.parametrize("name", OBJECTIVES)
HEADS = 0.3 * draw(2, 16, seed=5)
"""Rows w_m of two linear classifiers of two classes, whose logits are (w_m x, 0)."""


def linear(row: torch.Tensor):
    return lambda images: torch.stack([images.flatten(1) @ row, torch.zeros(len(images), dtype=row.dtype)], 1)


def guided_by(*classifiers, **settings: float) -> LongTailGuidance:
    guidance = LongTailGuidance(LongTailSettings(**settings))
    guidance.ensemble, guidance.decode = list(classifiers), lambda latents: latents
    return guidance


def closed_form(images: torch.Tensor) -> torch.Tensor:
    """The gradient of the mutual information of both heads: Σ ½ p (1 - p) (l - logit of the mean p) w."""
    logits = images.flatten(1) @ HEADS.T  # (B, 2)
    p = logits.sigmoid()
    mean = p.mean(1, keepdim=True)
    return (p * (1 - p) * (logits - mean.logit()) / 2) @ HEADS


def rms(values: torch.Tensor) -> torch.Tensor:
    return values.flatten(1).square().mean(1).sqrt().reshape(-1, 1, 1, 1)


def test_the_disagreement_is_the_mutual_information() -> None:
    p = torch.tensor([[[0.9, 0.1], [0.5, 0.5]], [[0.2, 0.8], [0.5, 0.5]]], dtype=torch.float64)
    entropy = lambda q: -(q * q.log()).sum(-1)  # noqa: E731
    torch.testing.assert_close(disagreement(p.log()), entropy(p.mean(0)) - entropy(p).mean(0))
    assert disagreement(p.log())[1].item() == pytest.approx(0, abs=1e-12)  # both are unsure
    sure = torch.tensor([[[50.0, 0.0]], [[0.0, 50.0]]], dtype=torch.float64)
    assert disagreement(sure).item() == pytest.approx(math.log(2))


@EACH_OBJECTIVE
def test_the_estimate_goes_the_closed_forms_way_as_far_as_the_schedule_says(name: str) -> None:
    objective = OBJECTIVES[name]
    guidance = guided_by(*map(linear, HEADS), guidance_scale=0.2)
    world, step = World(objective), step_at(objective)
    t = step.timesteps
    clean = objective.clean(NOISE, world.model().conditional(NOISE, t), t)
    world.evaluations.clear()
    moved = objective.clean(NOISE, guidance.predict(world.model(), NOISE, step), t) - clean
    assert world.evaluations == {"c": SAMPLES, "u": 0}
    way = closed_form(clean).reshape(NOISE.shape)
    schedule = 0.2 * (t + 0.3 * (math.pi * t).sin()).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(moved, schedule * rms(clean) * way / rms(way), rtol=1e-6, atol=1e-6)


@EACH_OBJECTIVE
def test_they_disagree_more_on_where_it_leads(name: str) -> None:
    objective, step = OBJECTIVES[name], step_at(OBJECTIVES[name])
    model, t = World(objective).model(), step.timesteps
    heads = [linear(row) for row in HEADS]
    found = [
        disagreement(torch.stack([head(objective.clean(NOISE, prediction, t)) for head in heads]))
        for prediction in (
            model.conditional(NOISE, t),
            guided_by(*heads, guidance_scale=0.01).predict(model, NOISE, step),
        )
    ]
    assert (found[1] > found[0]).all()


def test_without_a_scale_nothing_moves() -> None:
    model, step = World(OBJECTIVES["flow"]).model(), step_at(OBJECTIVES["flow"])
    plain = model.conditional(NOISE, step.timesteps)
    heads = [linear(row) for row in HEADS]
    assert torch.equal(guided_by(*heads, guidance_scale=0).predict(model, NOISE, step), plain)


@EACH_OBJECTIVE
def test_samples_are_independent(name: str) -> None:
    assert_samples_are_independent(guided_by(*map(linear, HEADS)), OBJECTIVES[name])


def test_its_classifiers_are_different_and_kept(tmp_path: Path) -> None:
    shop = workshop(tmp_path / "data")
    guidance = LongTailGuidance(LongTailSettings(classifiers=2, epochs=1))
    (tmp_path / "guide").mkdir()
    guidance.learn(shop, tmp_path / "guide")
    guidance.prepare(shop, tmp_path / "guide")
    images = torch.from_numpy(shop.data().validation.all_images()[:8]) / 127.5 - 1
    first, second = (classify(images) for classify in guidance.ensemble)
    assert not torch.allclose(first, second)
    assert guidance.value(images, torch.zeros(8, dtype=torch.long)).min() >= 0
