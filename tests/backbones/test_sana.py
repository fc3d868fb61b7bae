"""Sana's backbone on tiny pipelines of the real classes, saved and loaded as users do."""

from __future__ import annotations

import inspect
import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import SanaPipeline
from diffusers.schedulers import FlowMatchEulerDiscreteScheduler
from methods_on import attach
from tiny_sana import save_sana

from grasp_bench import plugins
from grasp_bench.adapters.residual import RoutedAdapter
from grasp_bench.backbones.sana import Sana
from grasp_bench.backbones.sd3 import SD3
from grasp_bench.contracts.method import Condition, Method, MethodSettings
from grasp_bench.contracts.settings import Settings
from grasp_bench.errors import UserError
from grasp_bench.guidances.cfg import CfgSettings, ClassifierFreeGuidance
from grasp_bench.guidances.none import NoGuidance
from grasp_bench.run.sampling import Sampler

METHODS = sorted(plugins.entries("methods"))
PROMPTS = ["a photo of the dog", "A cat, 3 of 4!", ""]
FEED_FORWARDS = ["transformer_blocks.0.ff", "transformer_blocks.1.ff"]
INSTRUCTION = inspect.signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder that no test changes."""
    return save_sana(tmp_path_factory.mktemp("pipelines") / "sana")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A pipeline folder of the test's own."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


@pytest.fixture
def backbone(saved: Path) -> Sana:
    return Sana.load(str(saved))


@pytest.fixture(scope="module")
def pipeline(saved: Path) -> SanaPipeline:
    """The same folder as diffusers itself loads it."""
    return diffusers_pipeline(saved)


def diffusers_pipeline(folder: Path) -> SanaPipeline:
    pipeline = SanaPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def images(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(1)).byte()


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# Describing and loading


def test_the_size_of_images_is_that_of_latents_times_the_autoencoders_factor(folder: Path) -> None:
    description = Sana.describe(str(folder))
    assert description.image_shape == (3, 32, 32)  # latents of 8 and three blocks
    edit(folder / "vae" / "config.json", encoder_block_out_channels=[8] * 4)
    changed = Sana.describe(str(folder))
    assert changed.image_shape == (3, 64, 64)
    assert changed.revision != description.revision
    assert changed.text_encoder == description.text_encoder


def test_what_is_loaded_is_what_was_saved_frozen_in_float32(backbone: Sana, pipeline: SanaPipeline) -> None:
    assert backbone.latent_shape == (8, 8, 8)
    assert backbone.revision == Sana.describe(str(backbone.saved.folder)).revision
    originals = (pipeline.transformer, pipeline.vae, pipeline.text_encoder)
    loaded = (backbone.transformer, backbone.autoencoder, backbone.text_pipeline.text_encoder)
    for module, original in zip(loaded, originals, strict=True):
        assert not module.training
        state = original.state_dict()
        for name, parameter in module.named_parameters():
            assert parameter.dtype == torch.float32
            assert not parameter.requires_grad
            assert torch.equal(parameter, state[name])


def test_another_familys_pipeline_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="its transformer is of the class SanaTransformer2DModel, expected SD3"):
        SD3.describe(str(folder))
    edit(folder / "model_index.json", transformer=["diffusers", "SD3Transformer2DModel"])
    with pytest.raises(UserError, match="of the class SD3Transformer2DModel, expected SanaTransformer2DModel"):
        Sana.load(str(folder))


def test_a_scheduler_that_samples_no_flow_is_refused(folder: Path) -> None:
    edit(folder / "scheduler" / "scheduler_config.json", use_flow_sigmas=False)
    with pytest.raises(UserError, match=r"scheduler_config\.json: use_flow_sigmas is False, expected True"):
        Sana.describe(str(folder))
    edit(folder / "model_index.json", scheduler=["diffusers", "SCMScheduler"])  # Sana-Sprint's
    with pytest.raises(UserError, match="scheduler is of the class SCMScheduler, expected one of DPMSolverMultistepS"):
        Sana.describe(str(folder))


# Encoding and predicting


def test_latents_are_the_autoencoders_own_scaled_in_any_batch(backbone: Sana, pipeline: SanaPipeline) -> None:
    pixels = images(3)
    latents = backbone.encode_images(pixels)
    assert latents.shape == (3, 8, 8, 8)
    with torch.no_grad():
        expected = pipeline.vae.encode(pixels.float() / 127.5 - 1).latent * 0.41407
        reconstruction = pipeline.vae(pixels.float() / 127.5 - 1).sample  # autoencoder in, autoencoder out
    torch.testing.assert_close(latents, expected)
    assert torch.equal(backbone.encode_images(pixels[1:2]), latents[1:2])
    decoded = backbone.decode_latents(latents)
    assert decoded.dtype == torch.uint8
    shown = pipeline.image_processor.postprocess(reconstruction, output_type="np") * 255
    assert np.abs(decoded.permute(0, 2, 3, 1).numpy() - shown).max() < 0.51
    assert torch.equal(backbone.decode_latents(latents[1:2]), decoded[1:2])
    assert decoded.float().std() > 1


def test_prompts_are_encoded_as_the_pipeline_does_and_the_empty_one_as_its_negative(
    backbone: Sana, pipeline: SanaPipeline
) -> None:
    found = backbone.encode_prompts(PROMPTS)
    assert found.tokens.shape == (3, 300, 24)
    assert found.mask is not None
    assert found.mask.dtype == torch.bool
    with torch.no_grad():
        for row, prompt in enumerate(PROMPTS[:2]):
            tokens, mask, null, null_mask = pipeline.encode_prompt(prompt, complex_human_instruction=INSTRUCTION)
            assert torch.equal(found.tokens[row : row + 1], tokens)
            assert torch.equal(found.mask[row : row + 1], mask.bool())
    assert torch.equal(found.tokens[2:], null)
    assert torch.equal(found.mask[2:], null_mask.bool())
    assert found.mask.sum(1)[2] == 1  # the sequence's beginning
    assert not torch.equal(found.tokens[0], found.tokens[1])


def test_predictions_are_the_transformers_own(backbone: Sana, pipeline: SanaPipeline) -> None:
    latents, timesteps, prompts = noise(3, 8, 8, 8), torch.tensor([0.1, 0.5, 1.0]), backbone.encode_prompts(PROMPTS)
    with torch.no_grad():
        expected = pipeline.transformer(
            latents,
            encoder_hidden_states=prompts.tokens,
            encoder_attention_mask=prompts.mask,
            timestep=torch.tensor([100.0, 500.0, 1000.0]),
        ).sample
    assert torch.equal(backbone.predict(latents, timesteps, prompts), expected)


# Sampling


def assert_sampled_as_by(pipeline: SanaPipeline, backbone: Sana, scale: float) -> None:
    guidance = NoGuidance(Settings()) if scale == 1 else ClassifierFreeGuidance(CfgSettings(guidance_scale=scale))
    sampler = Sampler(backbone, Method(MethodSettings()), guidance, CPU)
    start = noise(2, 8, 8, 8)
    found = sampler(start, PROMPTS[:2], torch.tensor([0, 1]), 5)
    given = {"prompt": PROMPTS[:2]}
    if scale == 0:
        null = backbone.encode_prompts(["", ""])
        given = {"prompt_embeds": null.tokens, "prompt_attention_mask": null.mask}
    size = {"height": 32, "width": 32, "use_resolution_binning": False}
    options = {"num_inference_steps": 5, "guidance_scale": scale, "output_type": "np"}
    expected = pipeline(**given, **size, **options, latents=start).images
    assert np.abs(found.permute(0, 2, 3, 1).numpy() - expected * 255).max() < 0.51
    assert found.float().std() > 1


@pytest.mark.parametrize("scale", [0, 1, 4.5])
def test_sampling_is_the_pipelines_own(backbone: Sana, pipeline: SanaPipeline, scale: float) -> None:
    """Scheduler with its shift, clock and scaling: the same images from the same noise, guided or not."""
    assert_sampled_as_by(pipeline, backbone, scale)


def test_a_scaled_clock_and_a_learned_variance_are_sampled_as_by_the_pipeline(tmp_path: Path) -> None:
    folder = save_sana(tmp_path / "sana", timestep_scale=0.001, learned_sigma=True)
    assert_sampled_as_by(diffusers_pipeline(folder), Sana.load(str(folder)), 4.5)


def test_a_pipeline_saved_with_eulers_scheduler_is_sampled_with_it(folder: Path) -> None:
    pipeline = diffusers_pipeline(folder)
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    pipeline.save_pretrained(folder)
    assert_sampled_as_by(pipeline, Sana.load(str(folder)), 4.5)


def test_sampling_is_deterministic_whatever_was_saved(folder: Path, backbone: Sana) -> None:
    edit(folder / "scheduler" / "scheduler_config.json", algorithm_type="sde-dpmsolver++")
    stochastic = Sana.load(str(folder)).scheduler(4, CPU)
    assert stochastic.config.algorithm_type == "dpmsolver++"
    levels = backbone.objective.levels(stochastic)
    assert torch.equal(levels, backbone.objective.levels(backbone.scheduler(4, CPU)))
    assert levels.shape == (5,)
    assert (levels.diff() < 0).all()
    torch.testing.assert_close(levels, stochastic.sigmas, atol=1e-3, rtol=0)
    assert (levels[0], levels[-1]) == (pytest.approx(0.999), 0)


# Methods


def forward(backbone: Sana, method: Method[MethodSettings] | None, rows: slice = slice(None)) -> torch.Tensor:
    labels, dropped = torch.tensor([0, 3, 9]), torch.tensor([False, False, True])
    condition = Condition(labels, dropped, backbone.encode_prompts(PROMPTS), torch.tensor([0.2, 0.6, 0.9]))[rows]
    with nullcontext() if method is None else method.condition(condition):
        return backbone.predict(noise(3, 8, 8, 8)[rows], condition.timesteps, condition.prompts)


def train(backbone: Sana, method: Method[MethodSettings], steps: int = 2) -> None:
    optimizer = torch.optim.AdamW(method.parameters().values(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        forward(backbone, method).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_starts_at_the_base_model_trains_its_own_and_leaves(backbone: Sana, name: str) -> None:
    expected = forward(backbone, None)
    pristine = {key: tensor.clone() for key, tensor in backbone.transformer.state_dict().items()}
    method = attach(backbone, name)
    assert torch.equal(forward(backbone, method), expected)

    own = {id(parameter) for parameter in method.parameters().values()}
    before = [(parameter, parameter.detach().clone()) for parameter in backbone.transformer.parameters()]
    train(backbone, method)
    changed = {id(parameter) for parameter, value in before if not torch.equal(parameter, value)}
    assert changed
    assert changed <= own
    assert not torch.equal(forward(backbone, method), expected)

    method.detach()
    left = backbone.transformer.state_dict()
    assert left.keys() == pristine.keys()
    assert all(torch.equal(left[key], pristine[key]) for key in pristine)
    assert not any(parameter.requires_grad for parameter in backbone.transformer.parameters())
    assert torch.equal(forward(backbone, None), expected)


@pytest.mark.parametrize("name", METHODS)
def test_a_sample_does_not_depend_on_the_rest_of_its_batch(backbone: Sana, name: str) -> None:
    method = attach(backbone, name)
    train(backbone, method)
    with torch.no_grad():
        together = forward(backbone, method)
        alone = torch.cat([forward(backbone, method, slice(row, row + 1)) for row in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_grasp_wraps_every_feed_forward_and_nothing_else(backbone: Sana) -> None:
    assert list(backbone.feed_forwards()) == FEED_FORWARDS
    attach(backbone, "grasp")
    modules = backbone.transformer.named_modules()
    assert [name for name, module in modules if isinstance(module, RoutedAdapter)] == FEED_FORWARDS


def test_lora_targets_every_attention_projection_and_nothing_else(backbone: Sana) -> None:
    parts = [f"attn{number}.{part}" for number in (1, 2) for part in ("to_q", "to_k", "to_v", "to_out.0")]
    targets = {name.rpartition(".lora_")[0] for name in attach(backbone, "lora").parameters()}
    assert targets == {f"transformer_blocks.{block}.{part}" for block in range(2) for part in parts}


@pytest.mark.parametrize("name", ["grasp", "moe"])
def test_gradient_checkpointing_changes_no_gradient(saved: Path, name: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        backbone = Sana.load(str(saved))
        method = attach(backbone, name)
        if checkpointing:
            backbone.enable_gradient_checkpointing()
        backbone.transformer.train()
        train(backbone, method)
        gradients.append({key: p.grad for key, p in method.parameters().items() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert any(gradient.any() for gradient in gradients[0].values())
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], gradient)
