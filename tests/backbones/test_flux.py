"""FLUX.1's backbone on tiny pipelines of the real classes, saved and loaded as users do."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from methods_on import attach
from tiny_flux import save_flux

from grasp_bench import plugins
from grasp_bench.adapters.residual import RoutedAdapter
from grasp_bench.backbones.flux import Flux
from grasp_bench.backbones.sd3 import SD3
from grasp_bench.contracts.method import Condition, Method, MethodSettings
from grasp_bench.contracts.settings import Settings
from grasp_bench.errors import UserError
from grasp_bench.guidances.cfg import CfgSettings, ClassifierFreeGuidance
from grasp_bench.guidances.none import NoGuidance
from grasp_bench.run.sampling import Sampler

METHODS = sorted(plugins.entries("methods"))
PROMPTS = ["a photo of the dog", "A cat, 3 of 4!", ""]
FEED_FORWARDS = [f"transformer_blocks.{i}.{stream}" for i in range(2) for stream in ("ff", "ff_context")]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pipeline folders that no test changes."""
    folder = tmp_path_factory.mktemp("pipelines")
    return {name: save_flux(folder / name, folder / f"{name}-words", name == "dev") for name in ("dev", "schnell")}


@pytest.fixture(scope="module")
def saved(folders: dict[str, Path]) -> Path:
    return folders["dev"]


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A pipeline folder of the test's own."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


@pytest.fixture
def backbone(saved: Path) -> Flux:
    return Flux.load(str(saved))


@pytest.fixture(scope="module")
def pipeline(saved: Path) -> FluxPipeline:
    """The same folder as diffusers itself loads it."""
    return diffusers_pipeline(saved)


def diffusers_pipeline(folder: Path) -> FluxPipeline:
    pipeline = FluxPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def images(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(1)).byte()


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def packed(latents: torch.Tensor) -> torch.Tensor:
    """As the pipeline has latents (B, 4, 8, 8) on their way to the transformer."""
    return FluxPipeline._pack_latents(latents, len(latents), 4, 8, 8)


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# Describing and loading


def test_the_size_of_images_is_the_autoencoders(folder: Path) -> None:
    description = Flux.describe(str(folder))
    assert description.image_shape == (3, 32, 32)
    edit(folder / "vae" / "config.json", sample_size=64)
    changed = Flux.load(str(folder))
    assert changed.image_shape == Flux.describe(str(folder)).image_shape == (3, 64, 64)
    assert changed.latent_shape == (4, 16, 16)
    assert changed.revision != description.revision
    edit(folder / "vae" / "config.json", sample_size=60)
    with pytest.raises(UserError, match=r"vae/config\.json: sample_size.* is 60, expected a multiple of 8"):
        Flux.describe(str(folder))


def test_what_is_loaded_is_what_was_saved_frozen_in_float32(backbone: Flux, pipeline: FluxPipeline) -> None:
    assert backbone.latent_shape == (4, 8, 8)
    assert backbone.revision == Flux.describe(str(backbone.saved.folder)).revision
    originals = (pipeline.transformer, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2)
    texts = backbone.text_pipeline
    loaded = (backbone.transformer, backbone.autoencoder, texts.text_encoder, texts.text_encoder_2)
    for module, original in zip(loaded, originals, strict=True):
        assert not module.training
        state = original.state_dict()
        for name, parameter in module.named_parameters():
            assert parameter.dtype == torch.float32
            assert not parameter.requires_grad
            assert torch.equal(parameter, state[name])


def test_another_familys_pipeline_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="its transformer is of the class FluxTransformer2DModel, expected SD3"):
        SD3.describe(str(folder))
    edit(folder / "model_index.json", transformer=["diffusers", "SD3Transformer2DModel"])
    with pytest.raises(UserError, match="of the class SD3Transformer2DModel, expected FluxTransformer2DModel"):
        Flux.load(str(folder))


# Encoding and predicting


def test_latents_are_the_autoencoders_mode_shifted_and_scaled_in_any_batch(
    backbone: Flux, pipeline: FluxPipeline
) -> None:
    pixels = images(3)
    latents = backbone.encode_images(pixels)
    assert latents.shape == (3, 4, 8, 8)
    with torch.no_grad():
        mode = pipeline.vae.encode(pixels.float() / 127.5 - 1).latent_dist.mode()
        reconstruction = pipeline.vae.decode(mode).sample
    torch.testing.assert_close(latents, (mode - 0.1159) * 0.3611)
    assert torch.equal(backbone.encode_images(pixels[1:2]), latents[1:2])
    decoded = backbone.decode_latents(latents)
    assert decoded.dtype == torch.uint8
    shown = pipeline.image_processor.postprocess(reconstruction, output_type="np") * 255
    assert np.abs(decoded.permute(0, 2, 3, 1).numpy() - shown).max() < 0.51
    assert torch.equal(backbone.decode_latents(latents[1:2]), decoded[1:2])
    assert decoded.float().std() > 1


def test_prompts_are_encoded_as_the_pipeline_does(backbone: Flux, pipeline: FluxPipeline) -> None:
    found = backbone.encode_prompts(PROMPTS)
    assert found.tokens.shape == (3, 512, 24)
    assert found.pooled is not None
    assert found.mask is None
    with torch.no_grad():
        for row, prompt in enumerate(PROMPTS):
            tokens, pooled, _ = pipeline.encode_prompt(prompt)
            assert torch.equal(found.tokens[row : row + 1], tokens)
            assert torch.equal(found.pooled[row : row + 1], pooled)
    assert len({tuple(row.tolist()) for row in found.pooled}) == 3


@pytest.mark.parametrize("name", ["dev", "schnell"])
def test_predictions_are_the_transformers_own(folders: dict[str, Path], name: str) -> None:
    backbone, pipeline = Flux.load(str(folders[name])), diffusers_pipeline(folders[name])
    latents, timesteps, prompts = noise(3, 4, 8, 8), torch.tensor([0.1, 0.5, 1.0]), backbone.encode_prompts(PROMPTS)
    with torch.no_grad():
        expected = pipeline.transformer(
            packed(latents),
            encoder_hidden_states=prompts.tokens,
            pooled_projections=prompts.pooled,
            timestep=timesteps,
            img_ids=FluxPipeline._prepare_latent_image_ids(3, 4, 4, CPU, torch.float32),
            txt_ids=torch.zeros(512, 3),
            guidance=torch.full((3,), 3.5) if name == "dev" else None,
        ).sample
    found = backbone.predict(latents, timesteps, prompts)
    assert found.shape == latents.shape
    assert torch.equal(packed(found), expected)


# Sampling


@pytest.mark.parametrize(("name", "scale"), [("dev", 0), ("dev", 1), ("dev", 4.5), ("schnell", 1)])
def test_sampling_is_the_pipelines_own(folders: dict[str, Path], name: str, scale: float) -> None:
    """Schedule with its shift, guidances and scaling: the same images from the same noise."""
    backbone, pipeline = Flux.load(str(folders[name])), diffusers_pipeline(folders[name])
    guidance = NoGuidance(Settings()) if scale == 1 else ClassifierFreeGuidance(CfgSettings(guidance_scale=scale))
    sampler, start = Sampler(backbone, Method(MethodSettings()), guidance, CPU), noise(2, 4, 8, 8)
    found = sampler(start, PROMPTS[:2], torch.tensor([0, 1]), 5)
    prompts = ["", ""] if scale == 0 else PROMPTS[:2]
    given = {"negative_prompt": ["", ""], "true_cfg_scale": max(1, scale)}
    options = {"height": 32, "width": 32, "num_inference_steps": 5, "output_type": "np"}
    expected = pipeline(prompts, **given, **options, latents=packed(start)).images
    assert np.abs(found.permute(0, 2, 3, 1).numpy() - expected * 255).max() < 0.51
    assert found.float().std() > 1


def test_the_schedule_shifts_more_for_larger_images_and_is_deterministic(folder: Path, backbone: Flux) -> None:
    small = backbone.objective.levels(backbone.scheduler(4, CPU))
    edit(folder / "vae" / "config.json", sample_size=256)
    edit(folder / "scheduler" / "scheduler_config.json", stochastic_sampling=True)
    scheduler = Flux.load(str(folder)).scheduler(4, CPU)
    assert not scheduler.config.stochastic_sampling
    large = backbone.objective.levels(scheduler)
    assert small.shape == large.shape == (5,)
    assert (small[0], small[-1]) == (large[0], large[-1]) == (1, 0)
    assert (large[1:-1] > small[1:-1]).all()
    assert (large.diff() < 0).all()


# Methods


def forward(backbone: Flux, method: Method[MethodSettings] | None, rows: slice = slice(None)) -> torch.Tensor:
    labels, dropped = torch.tensor([0, 3, 9]), torch.tensor([False, False, True])
    condition = Condition(labels, dropped, backbone.encode_prompts(PROMPTS), torch.tensor([0.2, 0.6, 0.9]))[rows]
    with nullcontext() if method is None else method.condition(condition):
        return backbone.predict(noise(3, 4, 8, 8)[rows], condition.timesteps, condition.prompts)


def train(backbone: Flux, method: Method[MethodSettings], steps: int = 2) -> None:
    optimizer = torch.optim.AdamW(method.parameters().values(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        forward(backbone, method).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_starts_at_the_base_model_trains_its_own_and_leaves(backbone: Flux, name: str) -> None:
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
def test_a_sample_does_not_depend_on_the_rest_of_its_batch(backbone: Flux, name: str) -> None:
    method = attach(backbone, name)
    train(backbone, method)
    with torch.no_grad():
        together = forward(backbone, method)
        alone = torch.cat([forward(backbone, method, slice(row, row + 1)) for row in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_grasp_wraps_the_feed_forwards_of_double_blocks_and_nothing_else(backbone: Flux) -> None:
    assert list(backbone.feed_forwards()) == FEED_FORWARDS
    attach(backbone, "grasp")
    modules = backbone.transformer.named_modules()
    assert [name for name, module in modules if isinstance(module, RoutedAdapter)] == FEED_FORWARDS


def test_lora_targets_every_attention_projection_and_nothing_else(backbone: Flux) -> None:
    linear = {
        name
        for name, module in backbone.transformer.named_modules()
        if isinstance(module, torch.nn.Linear) and ".attn." in name
    }
    targets = {name.rpartition(".lora_")[0] for name in attach(backbone, "lora").parameters()}
    assert targets == linear
    assert len(targets) == 2 * 8 + 3  # a single block's output is fused with its feed-forward


@pytest.mark.parametrize("name", ["grasp", "moe"])
def test_gradient_checkpointing_changes_no_gradient(saved: Path, name: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        backbone = Flux.load(str(saved))
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
