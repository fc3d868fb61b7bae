"""FLUX.1's backbone on tiny pipelines of the real classes, saved and loaded as users do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from tiny_flux import save_flux

from grasp_bench import plugins
from grasp_bench.backbones.flux import Flux
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.contracts.settings import Settings
from grasp_bench.errors import UserError
from grasp_bench.guidances.cfg import CfgSettings, ClassifierFreeGuidance, NoGuidance
from grasp_bench.sampling import Sampler

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


# Encoding and predicting


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
            words = len(pipeline.tokenizer_2(prompt).input_ids)
            assert found.padding[row].tolist() == [place >= words for place in range(512)]
    assert len({tuple(row.tolist()) for row in found.pooled}) == 3


def test_schnell_reads_fewer_tokens_and_has_embeddings_of_its_own(folders: dict[str, Path], tmp_path: Path) -> None:
    assert Flux.load(str(folders["schnell"])).encode_prompts(PROMPTS).tokens.shape == (3, 256, 24)
    folder = Path(shutil.copytree(folders["dev"], tmp_path / "copy"))
    edit(folder / "transformer" / "config.json", guidance_embeds=False)  # the same encoders
    assert Flux.describe(str(folder)).text_encoder != Flux.describe(str(folders["dev"])).text_encoder


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
            txt_ids=torch.zeros(512 if name == "dev" else 256, 3),
            guidance=torch.ones(3) if name == "dev" else None,  # as in training
        ).sample
    found = backbone.predict(latents, timesteps, prompts)
    assert found.shape == latents.shape
    assert torch.equal(packed(found), expected)


# Sampling


@pytest.mark.parametrize(("name", "scale"), [("dev", 0), ("dev", None), ("dev", 1), ("dev", 4.5), ("schnell", 1)])
def test_sampling_is_the_pipelines_own(folders: dict[str, Path], name: str, scale: float | None) -> None:
    """Schedule with its shift, guidances and scaling: the same images from the same noise.

    A scale of None is without guidance, for which the pipeline is told a distilled one of 1.
    """
    backbone, pipeline = Flux.load(str(folders[name])), diffusers_pipeline(folders[name])
    unguided = scale is None
    guidance = NoGuidance(Settings()) if unguided else ClassifierFreeGuidance(CfgSettings(guidance_scale=scale))
    sampler, start = Sampler(backbone, Method(MethodSettings()), guidance, CPU), noise(2, 4, 8, 8)
    found = sampler(start, PROMPTS[:2], torch.tensor([0, 1]), 5)
    prompts = ["", ""] if scale == 0 else PROMPTS[:2]
    given = {"negative_prompt": ["", ""], "true_cfg_scale": max(1, scale or 0)}
    given["guidance_scale"] = 1.0 if unguided else 3.5
    options = {"height": 32, "width": 32, "num_inference_steps": 5, "output_type": "np"}
    options["max_sequence_length"] = 512 if name == "dev" else 256
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
