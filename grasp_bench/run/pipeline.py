"""The stages of a run: prepare → train → generate → features → classify → score."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue

from grasp_bench import seeds
from grasp_bench.adapters.tread import refusal
from grasp_bench.contracts import record_v1
from grasp_bench.contracts.backbone import Backbone, PromptEmbeddings
from grasp_bench.contracts.extractor import Extractor
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.record import Cost, Score
from grasp_bench.contracts.task import Dataset, Split
from grasp_bench.data.features import read_features
from grasp_bench.downstream import networks
from grasp_bench.errors import Skip
from grasp_bench.io import file_digest, mapped_tensor
from grasp_bench.metrics.scoring import LabelledFeatures
from grasp_bench.processes import ALONE, Processes
from grasp_bench.run import sampling as generation
from grasp_bench.run import sheet
from grasp_bench.run.files import CLASSES, COPIES, FEATURES, METRICS, PICTURE
from grasp_bench.run.plan import Plan
from grasp_bench.run.runner import Options
from grasp_bench.run.stages import classify, encode, study
from grasp_bench.run.stages import features as extract
from grasp_bench.run.stages import generate as sample
from grasp_bench.run.stages import score as results
from grasp_bench.run.stages import train as fine_tune
from grasp_bench.run.store import Stages
from grasp_bench.run.training import loop as training
from grasp_bench.run.training.batches import LatentSource
from grasp_bench.run.training.precision import store_frozen


@dataclass(frozen=True)
class Outcome:
    """What a finished run adds to its record."""

    streams: str
    weights: str
    cost: Cost
    scores: list[Score]
    diagnostics: list[dict[str, JsonValue]]
    files: list[Path]
    """To be kept beside the record."""

    def fields(self) -> dict[str, Any]:
        """The record's fields."""
        return vars(self) | {"files": [path.name for path in self.files]}


class Pipeline:
    """The stages of one run; each property is the folder or the content of a finished stage."""

    def __init__(
        self, plan: Plan, options: Options, device: torch.device, progress: Progress, processes: Processes = ALONE
    ) -> None:
        self.plan, self.options, self.device, self.progress, self.processes = plan, options, device, progress, processes
        self.inputs = plan.stage_inputs()
        self.stages = Stages(options.work_dir, progress.say, processes)
        self.classes = plan.task.classes()

    def outcome(self) -> Outcome | Skip:
        """Everything up to the scores, or why the method does not apply here."""
        skip = self.plan.method.supports(self.backbone, self.plan.task)
        skip = skip or (refusal(self.backbone) if self.plan.method.config.tread else None)
        skip = skip or self.plan.guidance.supports(self.backbone, self.plan.method)
        if skip is not None:
            return skip
        recipe, (channels, height, _) = self.plan.recipe, self.plan.backbone.image_shape
        networks.check(recipe.network, channels, recipe.resolution or height, len(self.classes))
        _ = self.loaded_extractor  # weights that are missing are missed before anything is trained
        trained = self.trained
        train_summary = json.loads((trained / training.SUMMARY).read_text())
        generate_summary = json.loads((self.generated / generation.SUMMARY).read_text())
        score = self._scored()
        weights = trained / training.WEIGHTS
        return Outcome(
            streams=train_summary["streams"],
            weights=file_digest(weights),
            cost=Cost(
                trainable_parameters=train_summary["trainable_parameters"],
                total_parameters=train_summary["total_parameters"],
                train_seconds=train_summary["seconds"],
                seconds_per_step=round(train_summary["seconds"] / self.plan.spec.budget.steps, 5),
                peak_memory_mib=train_summary["peak_memory_mib"],
                checkpoint_mib=round(weights.stat().st_size / 2**20, 4),
                generate_seconds=generate_summary["seconds"],
                network_evaluations_per_image=generate_summary["network_evaluations_per_image"],
                backward_passes_per_image=generate_summary.get("backward_passes_per_image"),  # of late, and below
                gflops_per_image=generate_summary.get("gflops_per_image"),
                generate_peak_memory_mib=generate_summary.get("peak_memory_mib"),
            ),
            scores=[Score.model_validate(record_v1.score(each)) for each in json.loads((score / METRICS).read_text())],
            diagnostics=train_summary["diagnostics"],
            files=[
                trained / training.LOG,
                *(trained / name for name in train_summary["artifacts"]),
                *(trained / name for name in train_summary.get("pictures", ())),  # of late
                score / CLASSES,
                score / COPIES,
                *(() if self.plan.private else (score / PICTURE,)),  # generated images may be copies of real ones
                *(score / name for name in (sheet.GENERATED, sheet.REAL) if (score / name).exists()),  # of late
            ],
        )

    @cached_property
    def data(self) -> Dataset:
        """The task's data."""
        task = self.plan.task
        folder = self.stages.run("prepare", self.inputs["prepare"], lambda folder: task.prepare(folder, self.progress))
        return task.open(folder, self.plan.backbone.image_shape)

    @cached_property
    def backbone(self) -> Backbone:
        """The pretrained backbone."""
        return self.fresh_backbone()

    def fresh_backbone(self) -> Backbone:
        """One that no method has been attached to."""
        backbone = self.plan.backbone.load()
        backbone.set_classes([info.prompt for info in self.plan.trained_on.task.classes()])
        return backbone

    def attach(self) -> set[torch.nn.Parameter]:
        """Attach the method to the backbone with its initial weights; the parameters that it added."""
        spec, task, transformer = self.plan.trained_on.spec, self.plan.trained_on.task, self.backbone.transformer
        pretrained = set(transformer.parameters())
        generator = seeds.generator("init", spec.task.name, spec.seed, spec.method.name)
        self.plan.method.studied = self.studied
        self.plan.method.attach(self.backbone, task, generator)
        store_frozen(transformer, spec.budget.precision)
        self.backbone.to(self.device)
        return set(transformer.parameters()) - pretrained

    @cached_property
    def studied(self) -> dict[str, JsonValue]:
        """What the method found out of the pretrained backbone and the data before training, if it asks for that."""
        if self.trainer is not self:
            return self.trainer.studied
        if not self.plan.method.studies:
            return {}
        return study.read(self.shared("study", study.build))

    @cached_property
    def trainer(self) -> Pipeline:
        """The pipeline of the run that fine-tunes the backbone: this one, or that of the task's generator."""
        if not self.plan.generator:
            return self
        return Pipeline(self.plan.generator, self.options, self.device, self.progress, self.processes)

    @cached_property
    def trained(self) -> Path:
        """Folder of the fine-tuned weights."""
        if self.trainer is not self:
            return self.trainer.trained
        return self.shared("train", fine_tune.build)

    def trained_after(self, steps: int) -> Path:
        """Folder of the weights that the same run had after ``steps``; all that it sees is a function of the step."""
        spec, method = self.plan.spec, self.plan.method
        shorter = spec.model_copy(update={"budget": spec.budget.model_copy(update={"steps": steps})})
        plan = replace(self.plan, spec=shorter, method=type(method)(method.config))
        return Pipeline(plan, self.options, self.device, self.progress, self.processes).trained

    @cached_property
    def latents(self) -> LatentSource:
        """Latents of the training images: stored, where an autoencoder makes them."""
        return encode.latents(self)

    @cached_property
    def embed(self) -> Callable[[Sequence[str]], PromptEmbeddings]:
        """Embeddings of the prompts of training and of generation: stored, where text encoders make them."""
        return encode.embed(self)

    @cached_property
    def generated(self) -> Path:
        """Folder of the generated images."""
        return self.shared("generate", sample.build)

    @cached_property
    def images(self) -> Split:
        """The generated images."""
        images, labels = (mapped_tensor(self.generated / generation.IMAGES, name) for name in ("images", "labels"))
        return Split(
            ids=[f"generated/{number:08}" for number in range(len(labels))],
            labels=labels,
            prompts=[self.classes[label].prompt for label in labels],
            read=lambda indices: images[indices],
        )

    def features(self, name: str, split: Split) -> LabelledFeatures:
        """Features of a split's images under the stage ``name``."""
        made = self.shared(name, partial(extract.build, split=split))
        return LabelledFeatures(read_features(made / FEATURES).features, split.labels, split.ids)

    @cached_property
    def extractor(self) -> Path:
        """Folder of the feature extractor."""
        data = self.data  # a stage of its own, which the one below may not run
        return self.stages.run(
            "extractor",
            self.inputs["extractor"],
            lambda folder: self.plan.extractor.build(data, len(self.classes), folder),
        )

    @cached_property
    def loaded_extractor(self) -> Extractor:
        """The feature extractor."""
        return self.plan.extractor.load(self.extractor)

    def _scored(self) -> Path:
        """Folder of the scores."""
        if self.stages.is_finished("score", self.inputs["score"]):
            return self.stages.folder("score", self.inputs["score"])
        data, images = self.data, self.images
        real = self.features("features-real", data.test)
        train, fake = self.features("features-train", data.train), self.features("features", images)
        said = classify.probabilities(self)
        build = partial(results.build, self, real=real, train=train, fake=fake, probabilities=said)
        return self.stages.run("score", self.inputs["score"], build)

    def shared(self, name: str, build: Callable[[Pipeline, Path], None]) -> Path:
        """Folder of a stage that all processes work on."""
        return self.stages.run(name, self.inputs[name], partial(build, self), together=True)
