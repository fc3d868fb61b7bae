"""The embedded backbone: its weights are what the card says, and its parts do what the contract says."""

import json

import numpy as np
import pytest
import torch

from grasp_bench.backbones import tiny_sd3
from grasp_bench.backbones.glyphs import captions, glyph_images
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.contracts.objective import FlowMatching
from grasp_bench.errors import UserError
from grasp_bench.io import file_digest


def test_the_shipped_weights_are_those_of_the_card_and_of_the_revision() -> None:
    card = json.loads(TinySD3.weights().with_suffix(".json").read_text())
    assert file_digest(TinySD3.weights()) == card["sha256"]
    assert card["sha256"].startswith(TinySD3.revision)
    assert sum(p.numel() for p in TinySD3.load().transformer.parameters()) == card["parameters"]
    assert TinySD3.weights().stat().st_size < 4 * 2**20


def test_other_weights_under_the_same_name_are_refused(tmp_path, monkeypatch) -> None:
    (tmp_path / "tiny-sd3.safetensors").write_bytes(TinySD3.weights().read_bytes()[:-1] + b"x")
    monkeypatch.setattr(tiny_sd3, "WEIGHTS", tmp_path)
    with pytest.raises(RuntimeError, match="is not the file"):
        TinySD3.load()


def test_the_backbone_knows_its_glyphs() -> None:
    """At the true caption the error is smaller than at the caption of another glyph."""
    backbone = TinySD3.load()
    images, prompts = glyph_images(4, 8)
    latents = backbone.encode_images(torch.from_numpy(images))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(latents.shape, generator=generator)
    timesteps = torch.full((len(latents),), 0.7)
    noisy = backbone.objective.add_noise(latents, noise, timesteps)
    wrong = prompts[4 * 20 :] + prompts[: 4 * 20]
    with torch.no_grad():
        right_error, wrong_error = (
            (backbone.predict(noisy, timesteps, backbone.encode_prompts(p)) - (noise - latents)).square().mean()
            for p in (prompts, wrong)
        )
    assert right_error < 0.7 * wrong_error


def test_glyphs_cover_both_cases_and_digits_with_distinct_captions() -> None:
    assert len(captions()) == len(set(captions().values())) == 62
    images, prompts = glyph_images(2, 8)
    assert images.shape == (124, 1, 8, 8)
    assert images.dtype == np.uint8
    assert (images.max((1, 2, 3)) == 255).all()
    assert len(prompts) == 124


def test_images_survive_encoding_and_decoding() -> None:
    backbone = TinySD3.load()
    images = torch.arange(256, dtype=torch.uint8).reshape(4, 1, 8, 8)
    assert torch.equal(backbone.decode_latents(backbone.encode_images(images)), images)


def test_prompts_are_encoded_word_by_word_whatever_the_batch() -> None:
    encode = TinySD3.load().encode_prompts
    both = encode(["a handwritten digit seven", "A handwritten digit SEVEN!"])
    assert torch.equal(both.tokens[0], both.tokens[1])
    assert torch.equal(encode(["a handwritten digit seven"]).tokens[0], both.tokens[0])
    assert not encode([""]).tokens.any()
    assert not encode([""]).pooled.any()
    order = encode(["dog bites man", "man bites dog"])
    assert not torch.equal(order.tokens[0], order.tokens[1])
    torch.testing.assert_close(order.pooled[0], order.pooled[1])


def test_a_prompt_of_too_many_words_is_an_error_that_says_so() -> None:
    with pytest.raises(UserError, match="13 words, but this backbone reads at most 12"):
        TinySD3.load().encode_prompts(["word " * 13])


def test_flow_matching_recovers_the_data_from_a_perfect_prediction() -> None:
    objective, generator = FlowMatching(), torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 5, 1, 8, 8, generator=generator)
    timesteps = objective.timesteps(5, generator)
    noisy = objective.add_noise(latents, noise, timesteps)
    torch.testing.assert_close(objective.clean(noisy, objective.target(latents, noise, timesteps), timesteps), latents)


def test_timesteps_are_logit_normal_and_follow_their_generator() -> None:
    objective = FlowMatching()
    drawn = objective.timesteps(20_000, torch.Generator().manual_seed(0))
    logits = torch.logit(drawn.double())
    assert logits.mean().item() == pytest.approx(0, abs=0.03)
    assert logits.std().item() == pytest.approx(1, abs=0.03)
    torch.manual_seed(9)
    assert torch.equal(drawn, objective.timesteps(20_000, torch.Generator().manual_seed(0)))


def test_euler_sampling_follows_the_straight_line_to_the_data() -> None:
    """With the exact velocity of a single data point, any number of steps ends there."""
    scheduler = TinySD3.load().scheduler(7, torch.device("cpu"))
    data, x = torch.full((1, 1, 8, 8), 0.3), torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        x = scheduler.step((x - data) / sigma, timestep, x, return_dict=False)[0]
    torch.testing.assert_close(x, data)
