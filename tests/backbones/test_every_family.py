"""Every family, and every method on one family or more, as users run them: train, resume, generate, export, load.

What every method does on every family is checked in small beside this; here its weights go through the files of a run.
"""

from __future__ import annotations

import gc
import io
import json
import shutil
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from diffusers import DiffusionPipeline
from families import SAVE, Family, save
from helpers.quick import quick
from helpers.spread import spread
from rich.console import Console
from safetensors.torch import load_file, save_file
from tiny_pixart import save_alpha, save_sigma
from typer.testing import CliRunner

import grasp_bench
from grasp_bench import plugins
from grasp_bench import sampling as generation
from grasp_bench.backbones.saved import SavedBackbone
from grasp_bench.baselines.lora import DIFFUSERS_FILE
from grasp_bench.cli import app
from grasp_bench.contracts.method import Batch, Method, MethodSettings
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.record import RunRecord, read_record, write_record
from grasp_bench.io import file_digest, read_tensors
from grasp_bench.run import files
from grasp_bench.run.environment import describe
from grasp_bench.run.files import TRAIN_LOG, TRAIN_SUMMARY, WEIGHTS
from grasp_bench.run.options import Options
from grasp_bench.run.pipeline import Pipeline, protocol, stage_keys
from grasp_bench.run.plan import Plan, plan
from grasp_bench.run.training.batches import Batches

METHODS = sorted(plugins.entries("methods"))
EVERYWHERE = ("grasp", "lora", "vanilla-ft")
"""Methods that are tried on every family; each other one on one."""
CPU = torch.device("cpu")
CLASSES, IMAGES, STEPS = 10, 2, 2  # images of each class, and sampling steps of an image
BUDGET = {"steps": 3, "batch_size": 4, "warmup_steps": 0, "images_per_class": IMAGES, "num_inference_steps": STEPS}

FAMILIES = sorted(SAVE)
PAIRS = [
    pytest.param(family, method, id=f"{family}-{method}") for family, method in spread(FAMILIES, METHODS, EVERYWHERE)
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    """A pipeline whose training images and prompts are encoded."""
    found = save(request.param, tmp_path_factory.mktemp(request.param))
    pipeline, _ = started(found, METHODS[0])
    assert pipeline.latents
    assert pipeline.embed
    return found


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parts of pipelines that were read from the disk."""
    parts, load = [], SavedBackbone._load

    def noting(self: SavedBackbone, part: str) -> Any:
        parts.append(part)
        return load(self, part)

    monkeypatch.setattr(SavedBackbone, "_load", noting)
    return parts


def planned(family: Family, method: str, *task_settings: str) -> Plan:
    """A run of three steps at a rate that shows in the images after them; in bfloat16 unless settings say otherwise."""
    found = plan(
        method=method,
        task="digits-lt",
        budget="smoke",
        backbone=family.source,
        method_settings=["learning_rate=0.01", *quick(method)],
        task_settings=task_settings,
    )
    return replace(found, spec=found.spec.model_copy(update={"budget": found.spec.budget.model_copy(update=BUDGET)}))


def started(family: Family, method: str, work: Path | None = None, *task_settings: str) -> tuple[Pipeline, io.StringIO]:
    """The stages of a run, in which a class's images are a batch; and what the user is told."""
    told, work = io.StringIO(), work or family.work
    options = Options(work / "results", work, "cpu", batch_size=IMAGES, log_every=1, checkpoint_minutes=0)
    pipeline = Pipeline(planned(family, method, *task_settings), options, CPU, Progress(Console(file=told, width=1000)))
    assert pipeline.plan.method.supports(pipeline.backbone, pipeline.plan.task) is None
    return pipeline, told


def before_each_step(patch: pytest.MonkeyPatch, act: Callable[[int], None]) -> None:
    """Call ``act`` with the number of the training step, counted from 0."""
    make = Batches.__call__

    def acting(self: Batches, step: int) -> Batch:
        act(step)
        return make(self, step)

    patch.setattr(Batches, "__call__", acting)


def interrupt_second(step: int) -> None:
    if step == 1:
        raise KeyboardInterrupt


def images_of(pipeline: Pipeline) -> torch.Tensor:
    """What the generate stage wrote: (classes, images per class, C, H, W)."""
    images = read_tensors(pipeline.generated / files.IMAGES)["images"]
    return images.reshape(CLASSES, IMAGES, *pipeline.plan.backbone.image_shape)


def test_no_family_is_left_out() -> None:
    kinds = {name: plugins.load("backbones", name) for name in plugins.entries("backbones")}
    assert {name for name, kind in kinds.items() if issubclass(kind, SavedBackbone)} == SAVE.keys()


# Every method


@pytest.mark.parametrize(("family", "method"), PAIRS, indirect=["family"])
def test_a_training_that_was_interrupted_ends_as_one_that_was_not(family, method, loaded, monkeypatch):
    whole = started(family, method)[0].trained
    expected = {name: (whole / name).read_bytes() for name in (WEIGHTS, *summary(whole)["artifacts"])}
    streams = summary(whole)["streams"]
    shutil.rmtree(whole)

    with monkeypatch.context() as patch:
        before_each_step(patch, interrupt_second)
        with pytest.raises(KeyboardInterrupt):
            _ = started(family, method)[0].trained
    assert not whole.exists()
    pipeline, told = started(family, method)
    assert pipeline.trained == whole
    assert "resuming after step 1" in told.getvalue()
    assert {name: (whole / name).read_bytes() for name in expected} == expected
    assert summary(whole)["streams"] == streams
    assert len((whole / TRAIN_LOG).read_text().splitlines()) == BUDGET["steps"]
    assert set(loaded) == {"transformer"}  # images and prompts were encoded before, for another method too


def summary(trained: Path) -> dict[str, Any]:
    return json.loads((trained / TRAIN_SUMMARY).read_text())


@pytest.mark.parametrize(("family", "method"), PAIRS, indirect=["family"])
def test_what_was_trained_generates_images(family, method, loaded, monkeypatch):
    def encode_images(self: SavedBackbone, images: torch.Tensor) -> torch.Tensor:
        raise AssertionError("images are encoded")

    monkeypatch.setattr(family.kind, "encode_images", encode_images)
    pipeline, _ = started(family, method)
    images = images_of(pipeline)
    assert images.dtype == torch.uint8
    assert len(images.flatten(0, 1).flatten(1).unique(dim=0)) == CLASSES * IMAGES
    assert set(loaded) == {"transformer", "vae"}  # the autoencoder decodes
    assert not torch.equal(images[0], first_class(pipeline, family.kind.load(str(family.folder))))


def first_class(pipeline: Pipeline, backbone: SavedBackbone) -> torch.Tensor:
    """The images of the first class (n, C, H, W) that a backbone makes, as it is, of the run's noise."""
    chosen = pipeline.plan
    streams = [generation.noise_stream(chosen.spec.task.name, 0, 0, number) for number in range(IMAGES)]
    noise = torch.stack([torch.randn(backbone.latent_shape, generator=stream) for stream in streams])
    sampler = generation.Sampler(backbone, Method(MethodSettings()), chosen.guidance, CPU, embed=pipeline.embed)
    return sampler(noise, [pipeline.classes[0].prompt] * IMAGES, torch.zeros(IMAGES, dtype=torch.long), STEPS)


@pytest.mark.parametrize(("family", "method"), PAIRS, indirect=["family"])
def test_an_export_generates_the_images_of_its_run(family, method, tmp_path):
    pipeline, _ = started(family, method)
    weights = pipeline.trained / WEIGHTS
    exported = export(family, pipeline, tmp_path)
    assert file_digest(exported / weights.name) == file_digest(weights)

    again = grasp_bench.load(exported, family.source, "cpu")
    stored = read_tensors(weights)
    assert again.method.state_dict().keys() == stored.keys()
    assert all(torch.equal(tensor, stored[name]) for name, tensor in again.method.state_dict().items())
    images = images_of(pipeline)
    names = [info.name for info in pipeline.classes]
    found = torch.stack([again.sample(class_name=name, num_images=IMAGES) for name in names])
    assert torch.equal(found, images)  # bit for bit, since a class's images are a batch in both
    alone = again.sample(class_name=names[-1], num_images=IMAGES, batch_size=1)
    assert (alone.int() - images[-1].int()).abs().max() <= 1  # sums in another order may round to another grey level


def export(family: Family, pipeline: Pipeline, folder: Path) -> Path:
    """What ``grasp-bench export`` makes of the run, whose record has no scores."""
    chosen = pipeline.plan
    record = RunRecord(
        run_id=chosen.spec.id,
        spec=chosen.spec,
        task_label=chosen.task_label,
        label=chosen.label,
        backbone_label=chosen.backbone.name,
        status="finished",
        started="2026-01-01T00:00:00+00:00",
        finished="2026-01-01T00:00:00+00:00",
        environment=describe(CPU),
        protocol=protocol(chosen),
        stages=stage_keys(chosen),
        weights=file_digest(pipeline.trained / WEIGHTS),
    )
    words = ["export", write_record(folder / "run", record), "--to", folder / "exported"]
    words += ["--work-dir", family.work, "--backbone", family.source]
    shown = CliRunner().invoke(app, [str(word) for word in words])
    assert shown.exit_code == 0, shown.exception
    return folder / "exported"


def test_an_exported_lora_loads_with_peft_and_diffusers_where_they_can(family, tmp_path):
    pipeline, _ = started(family, "lora", None, "precision=float32")  # in which diffusers loads the pipeline
    expected, exported = images_of(pipeline)[0], export(family, pipeline, tmp_path)
    backbone = family.kind.load(str(family.folder))
    peft.PeftModel.from_pretrained(backbone.transformer, exported)  # which it changes
    assert torch.equal(first_class(pipeline, backbone), expected)

    original = DiffusionPipeline.from_pretrained(family.folder)
    weights = exported / DIFFUSERS_FILE
    assert weights.exists() == ("load_lora_weights" in (exported / "README.md").read_text())
    assert weights.exists() == hasattr(original, "load_lora_weights")
    if weights.exists():
        original.load_lora_weights(exported, weight_name=weights.name)
        backbone = family.kind.load(str(family.folder))
        backbone.transformer = original.transformer
        assert (first_class(pipeline, backbone).int() - expected.int()).abs().max() <= 1


# Encoding once


def test_encoders_are_out_of_memory_while_training(family, tmp_path, monkeypatch):
    references: dict[str, weakref.ref[torch.nn.Module]] = {}
    load, left = SavedBackbone._load, []

    def referring(self: SavedBackbone, part: str) -> Any:
        made = load(self, part)
        if part in family.encoders:
            references[part] = weakref.ref(made)
        return made

    monkeypatch.setattr(SavedBackbone, "_load", referring)
    before_each_step(
        monkeypatch,
        lambda step: left.append([part for part, reference in references.items() if reference()]),
    )
    gc.disable()  # memory is free at once, not some time later
    try:
        _ = started(family, "grasp", tmp_path)[0].trained
    finally:
        gc.enable()
    assert references.keys() == family.encoders
    assert left == [[]] * BUDGET["steps"]


def test_another_autoencoder_encodes_images_anew_and_no_prompt(family, tmp_path, loaded):
    other = copied(family, tmp_path)
    config = other.folder / "vae" / "config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps(settings | {"scaling_factor": 2 * settings["scaling_factor"]}))
    before, after = (encoded(each) for each in (family, other))
    assert torch.equal(after[0], 2 * before[0])
    assert torch.equal(after[1], before[1])
    assert set(loaded) == {"transformer", "vae"}


def test_other_text_encoders_encode_prompts_anew_and_no_image(family, tmp_path, loaded):
    if family.encoders == {"vae"}:
        pytest.skip(f"{family.name} reads no text")
    other = copied(family, tmp_path)
    for weights in other.folder.glob("text_encoder*/*.safetensors"):
        save_file({name: 1.5 * tensor for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    before, after = (encoded(each) for each in (family, other))
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after[1], before[1])
    assert "vae" not in loaded


def test_another_transformer_encodes_nothing_anew_and_is_trained_anew(family, tmp_path, loaded):
    other = copied(family, tmp_path)
    (weights,) = (other.folder / "transformer").glob("*.safetensors")
    save_file({name: 1.5 * tensor for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    (latents, prompts), (same_latents, same_prompts) = (encoded(each) for each in (family, other))
    assert torch.equal(same_latents, latents)
    assert torch.equal(same_prompts, prompts)
    assert set(loaded) <= {"transformer"}
    keys = [stage_keys(planned(each, "grasp"))["train"] for each in (family, other)]
    assert keys[0] != keys[1]


def test_pipelines_that_encode_otherwise_with_the_same_encoders_share_no_prompts(tmp_path):
    """α reads 120 tokens and Σ 300, of the same T5."""
    alpha = Family("pixart", save_alpha(tmp_path / "alpha", tmp_path / "scratch-alpha"), tmp_path / "work")
    sigma = Family("pixart", save_sigma(tmp_path / "sigma", tmp_path / "scratch-sigma"), tmp_path / "work")
    weights = [file_digest(each.folder / "text_encoder" / "model.safetensors") for each in (alpha, sigma)]
    assert weights[0] == weights[1]
    tokens = [started(each, "grasp")[0].embed(["a handwritten digit one"]).tokens for each in (alpha, sigma)]
    assert [each.shape[1] for each in tokens] == [120, 300]


def copied(family: Family, folder: Path) -> Family:
    """The same pipeline in a folder of the test's own, with the work folder of the family."""
    return replace(family, folder=Path(shutil.copytree(family.folder, folder / "copy")))


def encoded(family: Family) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents of the first training images, and tokens of the first class's prompt."""
    pipeline, _ = started(family, "grasp")
    latents = pipeline.latents.read(np.arange(8), np.zeros(8, dtype=bool))
    return latents, pipeline.embed([pipeline.classes[0].prompt]).tokens


# A whole run


def test_a_run_of_the_command_line_finishes_with_scores(tmp_path, monkeypatch):
    pixart = save("pixart", tmp_path)
    monkeypatch.chdir(tmp_path)
    command = ["run", "-m", "grasp", "-t", "digits-lt", "--budget", "smoke", "--backbone", pixart.source]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.exception
    (path,) = Path("results").glob("*/grasp@pixart-*/seed-0/record.json")
    record = read_record(path)
    assert record.status == "finished"
    assert (record.spec.backbone.name, record.spec.backbone.version) == (
        "pixart",
        pixart.kind.describe(str(pixart.folder)).revision,
    )
    assert {"latents", "prompts"} <= record.stages.keys()
    assert record.cost.network_evaluations_per_image == 2 * record.spec.budget.num_inference_steps
    assert {metric.group for metric in record.scores} >= {"head", "medium", "tail"}
    assert {name for name in record.files if not (path.parent / name).exists()} == set()
    assert str(tmp_path) not in path.read_text()
    command[-1] = f"pixart:{pixart.folder.rename(tmp_path / 'moved')}"
    before = path.stat().st_mtime_ns
    assert CliRunner().invoke(app, command).exit_code == 0
    assert path.stat().st_mtime_ns == before  # the same weights elsewhere are the same run
