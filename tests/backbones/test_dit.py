"""DiT's backbone on a tiny pipeline of the real classes, saved and loaded as users do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, DiTPipeline, DPMSolverMultistepScheduler

from grasp_bench.backbones.dit import DiT, assign_rows, class_names
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.contracts.settings import Settings
from grasp_bench.errors import UserError
from grasp_bench.guidances.cfg import CfgSettings, ClassifierFreeGuidance, NoGuidance
from grasp_bench.sampling import Sampler
from grasp_bench.testing.tiny_dit import CLASSES, LABELS, save_dit

PROMPTS = ["a photo of a Great White Shark", "a photo of a sea cow", "a photo of a tabby cat"]
ROWS = [2, 0, 281]
GIVEN = [*PROMPTS[:2], ""]
"""Two classes and the null condition."""
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder that no test changes."""
    return save_dit(tmp_path_factory.mktemp("pipelines") / "dit")


@pytest.fixture(scope="module")
def pipeline(saved: Path) -> DiTPipeline:
    """The same folder as diffusers itself loads it."""
    pipeline = DiTPipeline.from_pretrained(saved, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A pipeline folder of the test's own."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def load(folder: Path) -> DiT:
    backbone = DiT.load(str(folder))
    backbone.set_classes(PROMPTS)
    return backbone


@pytest.fixture
def backbone(saved: Path) -> DiT:
    return load(saved)


def noise(count: int) -> torch.Tensor:
    return torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(2))


# Describing and loading


def test_a_pipeline_under_the_transformers_former_name_is_the_same_model(folder, backbone):
    index, config = folder / "model_index.json", folder / "transformer" / "config.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"transformer": ["diffusers", "Transformer2DModel"]}))
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_class_name": "Transformer2DModel"}))
    state = backbone.transformer.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in load(folder).transformer.state_dict().items())


# Classes


def test_classes_get_the_rows_of_their_names_and_the_empty_prompt_the_null_row(backbone):
    tokens = backbone.encode_prompts([*PROMPTS, ""]).tokens
    assert tokens.dtype == torch.int64
    assert tokens.tolist() == [[row] for row in [*ROWS, CLASSES]]


def test_a_dropped_prompt_becomes_the_null_row_and_stays_an_index(backbone):
    prompts = backbone.encode_prompts(PROMPTS).where(torch.tensor([True, False, True]), backbone.encode_prompts([""]))
    tokens = prompts.to(noise(1).double()).tokens
    assert tokens.dtype == torch.int64
    assert tokens[:, 0].tolist() == [ROWS[0], CLASSES, ROWS[2]]


def test_of_the_names_in_a_prompt_the_longest_counts_and_only_whole_words():
    names = class_names({"0": "cat", "1": "big cat", "2": "cat-o'-nine-tails, whip", "3": "tiger"})
    prompts = ["a big cat", "a Tiger!", "a scattering", "my cat", "the cat o' nine tails"]
    assert assign_rows(prompts, names, 6) == dict(zip(prompts, [1, 3, 4, 0, 2], strict=True))


def test_a_name_of_two_rows_serves_two_classes_and_others_get_what_is_left_in_order():
    prompts = ["a dog", "a crane", "a red crane", "a third crane", "a shark", "a white shark"]
    assert assign_rows(prompts, class_names(LABELS), CLASSES) == dict(zip(prompts, [0, 134, 517, 1, 3, 2], strict=True))


def test_classes_of_the_same_prompt_share_a_row(backbone):
    backbone.set_classes(["a crane", "a crane", "a dog"])
    assert backbone.encode_prompts(["a crane", "a dog"]).tokens.tolist() == [[134], [0]]


def test_a_task_may_have_as_many_classes_as_the_table_has_rows(backbone):
    prompts = [f"thing {number}" for number in range(CLASSES)]
    backbone.set_classes(prompts)
    assert sorted(backbone.encode_prompts(prompts).tokens[:, 0].tolist()) == list(range(CLASSES))
    with pytest.raises(UserError, match="dit tells 1000 classes apart, and this task has 1001"):
        backbone.set_classes([*prompts, "one more"])


def test_a_caption_is_refused(backbone):
    with pytest.raises(UserError, match="conditioned on classes, but this task has captions: 'a shark at sea' is the"):
        backbone.encode_prompts([PROMPTS[0], "a shark at sea"])


def test_a_folder_without_labels_serves_any_classes_in_order(folder):
    index = folder / "model_index.json"
    content = json.loads(index.read_text())
    del content["id2label"]
    index.write_text(json.dumps(content))
    assert load(folder).encode_prompts(PROMPTS).tokens.tolist() == [[0], [1], [2]]


# Encoding and predicting


def test_predictions_are_the_mean_half_of_the_transformers_own(backbone, pipeline):
    steps, rows = torch.tensor([0, 400, 999]), torch.tensor([2, 0, CLASSES])
    with torch.no_grad():
        expected = pipeline.transformer(noise(3), timestep=steps, class_labels=rows).sample
        times = backbone.objective.shares[steps].float()
        found = backbone.predict(noise(3), times, backbone.encode_prompts(GIVEN))
    assert expected.shape[1] == 8
    assert torch.equal(found, expected[:, :4])


def test_no_class_is_dropped_at_random_in_training(backbone):
    many = 200  # of which diffusers' own module drops a tenth
    prompts, times = backbone.encode_prompts(PROMPTS[:1] * many), torch.full((many,), 0.5)
    start = noise(1).expand(many, -1, -1, -1)
    expected = backbone.predict(start, times, prompts)
    backbone.transformer.train()
    assert torch.equal(backbone.predict(start, times, prompts), expected)


# Sampling


def sample(backbone: DiT, prompts: list[str], scale: float) -> torch.Tensor:
    guidance = NoGuidance(Settings()) if scale == 1 else ClassifierFreeGuidance(CfgSettings(guidance_scale=scale))
    sampler = Sampler(backbone, Method(MethodSettings()), guidance, torch.device("cpu"))
    return sampler(noise(len(prompts)), prompts, torch.zeros(len(prompts), dtype=torch.long), 5)


@pytest.mark.parametrize("scale", [0, 1, 4.5])
def test_sampling_is_the_pipelines_own(backbone, pipeline, scale):
    """Scheduler, clock and scaling: the same images from the same noise, guided or not."""
    found = sample(backbone, PROMPTS[:2], scale)
    expected = pipeline(
        [CLASSES] * 2 if scale == 0 else ROWS[:2],
        num_inference_steps=5,
        guidance_scale=scale,
        generator=torch.Generator().manual_seed(2),
        output_type="np",
    ).images
    assert np.abs(found.permute(0, 2, 3, 1).numpy() - expected * 255).max() < 0.51
    assert found.float().std() > 1


@pytest.mark.parametrize(
    "saved_scheduler", [DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"), DDPMScheduler(clip_sample=False)]
)
def test_sampling_is_deterministic_whatever_scheduler_was_saved(folder, backbone, saved_scheduler):
    saved_scheduler.save_pretrained(folder / "scheduler")
    other = load(folder)
    assert not other.scheduler(5, torch.device("cpu")).config.clip_sample  # latents are not bounded
    found = sample(other, PROMPTS[:2], 4.5)
    assert torch.equal(sample(other, PROMPTS[:2], 4.5), found)
    if isinstance(saved_scheduler, DDPMScheduler):
        assert torch.equal(found, sample(backbone, PROMPTS[:2], 4.5))
