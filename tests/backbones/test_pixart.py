"""PixArt's backbone on tiny pipelines of the real classes, saved and loaded as users do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, PixArtAlphaPipeline, PixArtSigmaPipeline
from tiny_pixart import PROMPT_WIDTH, save_alpha, save_sigma

from grasp_bench import plugins
from grasp_bench.backbones.pixart import PixArt
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.contracts.settings import Settings
from grasp_bench.errors import UserError
from grasp_bench.guidances.cfg import CfgSettings, ClassifierFreeGuidance, NoGuidance
from grasp_bench.sampling import Sampler

METHODS = sorted(plugins.entries("methods"))
PROMPTS = ["a photo of the dog", "A cat, 3 of 4!", ""]
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
LENGTHS = {"sigma": 300, "alpha": 120}
SIZES = {"sigma": 16, "alpha": 256}  # of the images, in pixels
SCALING = {"sigma": 0.13025, "alpha": 0.18215}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pipeline folders that no test changes."""
    folder = tmp_path_factory.mktemp("pipelines")
    return {
        "sigma": save_sigma(folder / "sigma", folder / "scratch-sigma"),
        "alpha": save_alpha(folder / "alpha", folder / "scratch-alpha"),
    }


@pytest.fixture(scope="module")
def pipelines(folders: dict[str, Path]) -> dict[str, Any]:
    """The same folders as diffusers itself loads them."""
    kinds = {"sigma": PixArtSigmaPipeline, "alpha": PixArtAlphaPipeline}
    loaded = {name: kind.from_pretrained(folders[name], local_files_only=True) for name, kind in kinds.items()}
    for pipeline in loaded.values():
        pipeline.set_progress_bar_config(disable=True)
    return loaded


@pytest.fixture(params=["sigma", "alpha"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def backbone(folders: dict[str, Path], family: str) -> PixArt:
    return PixArt.load(str(folders[family]))


@pytest.fixture
def sigma(folders: dict[str, Path]) -> PixArt:
    return PixArt.load(str(folders["sigma"]))


@pytest.fixture
def folder(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A folder of Σ of the test's own."""
    return Path(shutil.copytree(folders["sigma"], tmp_path / "copy"))


def images(backbone: PixArt, count: int) -> torch.Tensor:
    shape = (count, *backbone.image_shape)
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1)).byte()


def noise(backbone: PixArt, count: int) -> torch.Tensor:
    return torch.randn(count, *backbone.latent_shape, generator=torch.Generator().manual_seed(2))


# Describing and loading


def test_pipelines_of_another_kind_are_refused(folder):
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": "PixArtSigmaPAGPipeline"}))
    with pytest.raises(UserError, match="_class_name is 'PixArtSigmaPAGPipeline', expected one of PixArtAlphaPip"):
        PixArt.describe(str(folder))


def test_a_pipeline_under_the_transformers_former_name_is_the_same_model(folders, tmp_path):
    """As α was published: under diffusers' former class, and before it stated whether sizes are read."""
    folder = Path(shutil.copytree(folders["alpha"], tmp_path / "former"))
    index, config = folder / "model_index.json", folder / "transformer" / "config.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"transformer": ["diffusers", "Transformer2DModel"]}))
    settings = json.loads(config.read_text()) | {"_class_name": "Transformer2DModel"}
    del settings["use_additional_conditions"]
    config.write_text(json.dumps(settings))
    former, now = PixArt.load(str(folder)), PixArt.load(str(folders["alpha"]))
    state = now.transformer.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in former.transformer.state_dict().items())
    assert former.reads_size


# Encoding and predicting


def test_prompts_are_encoded_as_the_pipeline_does(backbone, pipelines, family):
    found = backbone.encode_prompts(PROMPTS)
    assert found.tokens.shape == (3, LENGTHS[family], PROMPT_WIDTH)
    assert found.mask.dtype == torch.bool
    with torch.no_grad():
        for row, prompt in enumerate(PROMPTS):
            tokens, mask, null, null_mask = pipelines[family].encode_prompt(prompt)
            assert torch.equal(found.tokens[row : row + 1], tokens)
            assert torch.equal(found.mask[row : row + 1].long(), mask)
    assert torch.equal(found.tokens[2:], null)  # the null condition is the pipeline's own
    assert torch.equal(found.mask[2:].long(), null_mask)
    assert found.mask.sum(1).tolist()[2] == 1  # only the end of the text


def test_predictions_are_the_mean_half_of_the_transformers_own(backbone, pipelines, family):
    latents, prompts = noise(backbone, 3), backbone.encode_prompts(PROMPTS)
    steps = torch.tensor([0, 400, 999])
    sizes = {
        "resolution": torch.full((3, 2), float(SIZES[family])),
        "aspect_ratio": torch.ones(3, 1),
    }
    with torch.no_grad():
        expected = (
            pipelines[family]
            .transformer(
                latents,
                encoder_hidden_states=prompts.tokens,
                encoder_attention_mask=prompts.mask.long(),
                timestep=steps,
                added_cond_kwargs=sizes,
            )
            .sample
        )
        found = backbone.predict(latents, backbone.objective.shares[steps].float(), prompts)
    assert expected.shape[1] == 8
    assert torch.equal(found, expected[:, :4])


# Sampling


def sample(backbone: PixArt, start: torch.Tensor, prompts: list[str], scale: float) -> torch.Tensor:
    guidance = NoGuidance(Settings()) if scale == 1 else ClassifierFreeGuidance(CfgSettings(guidance_scale=scale))
    sampler = Sampler(backbone, Method(MethodSettings()), guidance, torch.device("cpu"))
    return sampler(start, prompts, torch.zeros(len(prompts), dtype=torch.long), 5)


@pytest.mark.parametrize("scale", [0, 1, 4.5])
def test_sampling_is_the_pipelines_own(backbone, pipelines, family, scale):
    """Scheduler, clock, scaling and sizes: the same images from the same noise, guided or not."""
    start = noise(backbone, 2)
    found = sample(backbone, start, PROMPTS[:2], scale)
    expected = (
        pipelines[family](
            ["", ""] if scale == 0 else PROMPTS[:2],
            num_inference_steps=5,
            guidance_scale=scale,
            latents=start,
            clean_caption=False,
            use_resolution_binning=False,
            output_type="np",
        ).images
        * 255
    )
    assert np.abs(found.permute(0, 2, 3, 1).numpy() - expected).max() < 0.51
    assert found.float().std() > 1


@pytest.mark.parametrize(
    "saved", [DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"), DDPMScheduler(variance_type="learned")]
)
def test_sampling_is_deterministic_whatever_scheduler_was_saved(folder, sigma, saved):
    saved.save_pretrained(folder / "scheduler")
    other = PixArt.load(str(folder))
    start = noise(sigma, 2)
    found = sample(other, start, PROMPTS[:2], 4.5)
    assert torch.equal(sample(other, start, PROMPTS[:2], 4.5), found)
    if isinstance(saved, DPMSolverMultistepScheduler):
        assert torch.equal(found, sample(sigma, start, PROMPTS[:2], 4.5))
