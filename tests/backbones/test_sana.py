"""Sana's backbone on tiny pipelines of the real classes, saved and loaded as users do."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import SanaPipeline
from diffusers.schedulers import FlowMatchEulerDiscreteScheduler
from helpers.tiny_sana import save_sana

from grasp_bench import plugins
from grasp_bench.backbones.sana import Sana
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.contracts.settings import Settings
from grasp_bench.errors import UserError
from grasp_bench.guidances.cfg import CfgSettings, ClassifierFreeGuidance, NoGuidance
from grasp_bench.sampling import Sampler

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


def test_a_scheduler_that_samples_no_flow_is_refused(folder: Path) -> None:
    edit(folder / "scheduler" / "scheduler_config.json", use_flow_sigmas=False)
    with pytest.raises(UserError, match=r"scheduler_config\.json: use_flow_sigmas is False, expected True"):
        Sana.describe(str(folder))
    edit(folder / "model_index.json", scheduler=["diffusers", "SCMScheduler"])  # Sana-Sprint's
    with pytest.raises(UserError, match="scheduler is of the class SCMScheduler, expected one of DPMSolverMultistepS"):
        Sana.describe(str(folder))


# Encoding and predicting


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
