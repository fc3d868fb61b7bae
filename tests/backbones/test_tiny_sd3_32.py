"""The 32×32 member of the embedded family: sizes, contract, and what it learned."""

import json

import numpy as np
import pytest
import torch

from grasp_bench import seeds
from grasp_bench.backbones.scenes import draw_scene, render
from grasp_bench.backbones.tiny_sd3 import TinySD3At32
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.errors import UserError
from grasp_bench.guidances.cfg import CfgSettings, ClassifierFreeGuidance
from grasp_bench.io import file_digest
from grasp_bench.sampling import Sampler

TASK_PROMPTS = ["a chest X-ray showing subcutaneous emphysema", "a photo of a pickup truck"]


@pytest.fixture(scope="module")
def untrained() -> TinySD3At32:
    backbone = TinySD3At32.initialise()
    backbone.transformer.requires_grad_(False).eval()
    return backbone


def sample(backbone: TinySD3At32, prompts: list[str], steps: int = 2) -> torch.Tensor:
    torch.nn.Module.to(backbone.transformer, torch.float64)
    sampler = Sampler(backbone, Method(MethodSettings()), ClassifierFreeGuidance(CfgSettings()), torch.device("cpu"))
    noises = [torch.randn(*backbone.image_shape, generator=seeds.generator("test", i)) for i in range(len(prompts))]
    return sampler(torch.stack(noises), prompts, torch.zeros(len(prompts), dtype=torch.long), steps)


def test_it_has_one_to_two_million_parameters_and_64_image_tokens(untrained) -> None:
    assert 1e6 < sum(p.numel() for p in untrained.transformer.parameters()) < 2e6
    assert untrained.transformer.pos_embed(torch.zeros(1, 3, 32, 32)).shape[1] == 64


def test_initial_weights_never_vary_and_leave_torchs_generator_alone(untrained) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    again = TinySD3At32.initialise().transformer.state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(again[name], value) for name, value in untrained.transformer.state_dict().items())


def test_feed_forwards_are_those_of_both_streams_of_every_block(untrained) -> None:
    names = list(untrained.feed_forwards())
    blocks = [f"transformer_blocks.{block}" for block in range(4)]
    both = [f"{block}.{stream}" for block in blocks for stream in ("ff", "ff_context")]
    assert names == both[:-1]  # the last block does not write the prompt's tokens


def test_every_attention_projection_names_a_linear_layer(untrained) -> None:
    layers = [name for name, module in untrained.transformer.named_modules() if isinstance(module, torch.nn.Linear)]
    here = [ending for ending in TinySD3At32.attention_projections if not ending.startswith("attn2.")]  # SD3.5's own
    assert len(here) == 8
    for ending in here:
        assert any(name.endswith(ending) for name in layers), ending


def test_images_survive_encoding_and_decoding(untrained) -> None:
    images = torch.arange(3 * 32 * 32).remainder(256).byte().reshape(1, 3, 32, 32)
    assert torch.equal(untrained.decode_latents(untrained.encode_images(images)), images)


def test_prompts_may_have_24_words_and_no_more(untrained) -> None:
    assert untrained.encode_prompts([*TASK_PROMPTS, "word " * 24]).tokens.shape == (3, 24, 64)
    with pytest.raises(UserError, match="25 words, but this backbone reads at most 24"):
        untrained.encode_prompts(["word " * 25])


def test_the_prediction_depends_on_image_clock_and_prompt(untrained) -> None:
    latents = torch.randn(1, 3, 32, 32, generator=seeds.generator("test"))
    time, prompt = torch.tensor([0.5]), untrained.encode_prompts(TASK_PROMPTS[:1])
    untrained.transformer.float()
    base = untrained.predict(latents, time, prompt)
    assert base.shape == latents.shape
    assert not torch.equal(untrained.predict(-latents, time, prompt), base)
    assert not torch.equal(untrained.predict(latents, time / 2, prompt), base)
    assert not torch.equal(untrained.predict(latents, time, untrained.encode_prompts(TASK_PROMPTS[1:])), base)


def test_samples_are_colour_images_that_do_not_depend_on_the_batch(untrained) -> None:
    images = sample(untrained, TASK_PROMPTS)
    assert images.shape == (2, 3, 32, 32)
    assert images.dtype == torch.uint8
    assert torch.equal(sample(untrained, TASK_PROMPTS[:1])[0], images[0])
    assert torch.equal(sample(untrained, TASK_PROMPTS), images)


def test_the_shipped_weights_are_those_of_the_card_and_of_the_revision() -> None:
    path = TinySD3At32.weights()
    card = json.loads(path.with_suffix(".json").read_text())
    assert path.stat().st_size <= 4_000_000
    assert file_digest(path) == card["sha256"]
    assert card["sha256"].startswith(TinySD3At32.revision)
    transformer = TinySD3At32.load().transformer
    assert sum(p.numel() for p in transformer.parameters()) == card["parameters"]
    assert card["dtype"] == "float16"
    assert {p.dtype for p in transformer.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in transformer.parameters())


def test_the_pretrained_backbone_knows_its_captions() -> None:
    """At the true caption the error is smaller than at another scene's, and far smaller than a prediction of zeros."""
    backbone = TinySD3At32.load()
    rng = seeds.rng("test", "scenes that were not trained on")
    scenes = [draw_scene(rng) for _ in range(64)]
    captions = [scene.caption(name_background=True) for scene in scenes]
    latents = backbone.encode_images(torch.from_numpy(np.stack([render(scene, 32, rng) for scene in scenes])))
    noise = torch.randn(latents.shape, generator=seeds.generator("test"))
    timesteps = torch.full((len(latents),), 0.8)
    noisy = backbone.objective.add_noise(latents, noise, timesteps)
    target = backbone.objective.target(latents, noise, timesteps)
    with torch.no_grad():
        right, wrong = (
            (backbone.predict(noisy, timesteps, backbone.encode_prompts(prompts)) - target).square().mean()
            for prompts in (captions, captions[1:] + captions[:1])
        )
    assert right < 0.9 * wrong
    assert right < 0.25 * target.square().mean()
