"""Cascade: one stage is fa-cfg, two are a walk at twice the sides, at the cost that is stated."""

from dataclasses import replace

import pytest
import torch
from diffusers.models.embeddings import PatchEmbed
from gaussian_world import NOISE, OBJECTIVES, SAMPLES, World, draw, grid, noise_estimate, sample, step_at

from grasp_bench.backbones.diffusers_model import finer_positions, placed
from grasp_bench.contracts.guidance import Model, SamplingStep
from grasp_bench.guidances.bands import BandSettings, FrequencyAwareGuidance
from grasp_bench.guidances.cascade import CascadeGuidance, CascadeSettings, enlarged, noise_of, reduced

EACH_OBJECTIVE = pytest.mark.parametrize("name", OBJECTIVES)


def cascade(**settings: float) -> CascadeGuidance:
    return CascadeGuidance(CascadeSettings(**settings))


def walk(guidance: CascadeGuidance, model: Model, steps: int) -> torch.Tensor:
    """As ``gaussian_world.sample``, with a stream for each sample."""
    x, memory, times = NOISE, {}, grid(model.objective, steps)[:, None].expand(-1, SAMPLES)
    streams = [torch.Generator().manual_seed(seed) for seed in range(SAMPLES)]
    for index in range(steps):
        step = SamplingStep(index, steps, times[index], times[index + 1], memory, streams)
        prediction = guidance.predict(model, x, step)
        clean = model.objective.clean(x, prediction, step.timesteps)
        noise = noise_estimate(model.objective, x, prediction, step.timesteps)
        x = model.objective.add_noise(clean, noise, step.next_timesteps)
    return clean


@EACH_OBJECTIVE
def test_one_stage_is_fa_cfg_bit_for_bit(name: str) -> None:
    model = World(OBJECTIVES[name]).model()
    expected = sample(FrequencyAwareGuidance(BandSettings()), model)
    assert all(map(torch.equal, sample(cascade(stages=1), model), expected))
    assert cascade(stages=1).evaluations(20) == 40


@pytest.mark.parametrize(
    ("settings", "steps", "first", "evaluations"),
    [
        ({}, 20, 12, 40),
        ({"share": 0.5}, 5, 3, 10),
        ({"share": 0.9}, 1, 1, 2),
        ({"share": 0.1}, 5, 5, 10),
        ({"share": 0.99}, 3, 1, 6),
        ({"low_scale": 1, "high_scale": 1}, 20, 12, 12 + 16),
        ({"last_low_scale": 1, "last_high_scale": 1}, 20, 12, 24 + 8),
    ],
)
def test_the_last_stage_has_its_share_of_the_steps_and_each_its_evaluations(
    settings, steps, first, evaluations
) -> None:
    guidance = cascade(**settings)
    assert guidance.begins(steps) == first
    assert guidance.evaluations(steps) == evaluations


@EACH_OBJECTIVE
def test_what_goes_through_the_network_is_as_stated_and_four_times_as_large_at_the_end(name: str) -> None:
    objective, seen = OBJECTIVES[name], []

    def network(x: torch.Tensor, condition) -> torch.Tensor:
        seen.append(x.shape)
        return 0.1 * x

    labels = torch.arange(SAMPLES)
    model = replace(World(objective).model(), network=network, labels=labels)
    guidance = cascade(share=0.5)
    walk(guidance, model, 6)
    assert [tuple(shape[2:]) for shape in seen] == [(4, 4)] * 3 + [(8, 8)] * 3
    assert sum(shape[0] for shape in seen) == SAMPLES * guidance.evaluations(6)
    assert sum(shape.numel() for shape in seen) == NOISE.numel() * (2 * 3 + 2 * 3 * 4)


@EACH_OBJECTIVE
def test_a_perfect_network_ends_at_its_image(name: str) -> None:
    """Of a class with one image, which is the same at every resolution."""
    objective = OBJECTIVES[name]

    def network(x: torch.Tensor, condition) -> torch.Tensor:
        return objective.prediction(x, torch.full_like(x, 0.7), condition.timesteps)

    model = replace(World(objective).model(), network=network)
    found = walk(cascade(share=0.5), model, 6)
    torch.testing.assert_close(found, torch.full_like(found, 0.7), rtol=1e-6, atol=1e-6)


@EACH_OBJECTIVE
def test_enlarged_latents_are_at_the_next_level_and_averaging_gives_the_size_back(name: str) -> None:
    objective = OBJECTIVES[name]
    model, step = World(objective).model(), step_at(objective)
    step = replace(step, generators=[torch.Generator().manual_seed(seed) for seed in range(SAMPLES)])
    clean = torch.full_like(NOISE, 0.3)
    large = enlarged(model, clean, step)
    assert large.shape[2:] == (8, 8)
    later = step.next_timesteps > 0
    noise = noise_of(model, large, torch.full_like(large, 0.3), step.next_timesteps)[later]
    expected = torch.stack([torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(k)) for k in range(SAMPLES)])
    torch.testing.assert_close(noise, expected[later].double(), rtol=1e-5, atol=1e-5)
    blocks = draw(2, 1, 4, 4, seed=1)
    torch.testing.assert_close(reduced(blocks.repeat_interleave(2, 2).repeat_interleave(2, 3)), blocks)


def patches(largest: int | None) -> PatchEmbed:
    """For latents of 8×8 in patches of 2×2, with a table for ``largest`` patches a side."""
    return PatchEmbed(8, 8, patch_size=2, in_channels=1, embed_dim=64, pos_embed_max_size=largest)


@pytest.mark.parametrize("largest", [4, 6, 7])
def test_positions_at_twice_the_sides_lie_between_the_trained_ones(largest: int) -> None:
    embed = patches(largest)
    found = finer_positions(embed, (1, 8, 8), 2)
    assert found is not None
    native = embed.cropped_pos_embed(8, 8).reshape(4, 4, -1)
    torch.testing.assert_close(found.reshape(8, 8, -1)[::2, ::2], native, rtol=0, atol=1e-6)
    assert not torch.allclose(found.reshape(8, 8, -1)[1::2, ::2], native, atol=0.1)
    latents = torch.randn(2, 1, 16, 16)
    with pytest.raises(ValueError, match="cannot be greater"):
        embed(latents)
    with placed(embed, found, (16, 16)):
        inside = embed(latents)
    torch.testing.assert_close(inside - found, embed.proj(latents).flatten(2).transpose(1, 2))
    assert embed(latents[..., :8, :8]).shape == (2, 16, 64)
    assert embed.pos_embed_max_size == largest


def test_positions_that_are_there_or_computed_are_left_alone() -> None:
    assert all(finer_positions(embed, (1, 8, 8), 2) is None for embed in (patches(8), patches(None), None))
