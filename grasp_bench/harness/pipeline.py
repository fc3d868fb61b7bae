"""The stages of a run: prepare → train → generate → features → classify → score."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import JsonValue

from grasp_bench import seeds
from grasp_bench.adapters.tread import refusal
from grasp_bench.backbones.base import Backbone, PromptEmbeddings
from grasp_bench.checked import find_checked, load_checked, remove_checked, save_checked
from grasp_bench.data.features import FeatureSet, read_features, write_features
from grasp_bench.downstream import classifier, networks
from grasp_bench.downstream.sources import topped_up
from grasp_bench.errors import Skip
from grasp_bench.extractors.base import Extractor, PretrainedExtractor
from grasp_bench.extractors.inception import is_fid
from grasp_bench.guidance.workshop import Workshop
from grasp_bench.harness import checkpoint
from grasp_bench.harness import generate as generation
from grasp_bench.harness import train as training
from grasp_bench.harness.batches import Batches, LatentSource
from grasp_bench.harness.encoded import (
    KnownPrompts,
    Latents,
    Pixels,
    StoredPrompts,
    encode_latents,
    encode_prompts,
)
from grasp_bench.harness.plan import Plan
from grasp_bench.harness.precision import store_frozen
from grasp_bench.harness.progress import Reporter
from grasp_bench.harness.runner import Options
from grasp_bench.harness.score import (
    class_table,
    copies_table,
    downstream_metrics,
    fidelity_and_diversity,
    fidelity_metrics,
)
from grasp_bench.harness.stages import Stages
from grasp_bench.harness.trackers import tracking
from grasp_bench.harness.trained import summary as trained_names
from grasp_bench.io import file_digest, mapped_tensor, read_tensors, write_bytes, write_json, write_tensors
from grasp_bench.method import Method, MethodSettings
from grasp_bench.metrics.scoring import LabelledFeatures
from grasp_bench.processes import ALONE, Processes
from grasp_bench.record import Cost, Metric
from grasp_bench.report.pictures import write_grid
from grasp_bench.study import Study
from grasp_bench.task import Dataset, Split

FEATURES = "features.safetensors"
PROBABILITIES = "probabilities.safetensors"
METRICS = "metrics.json"
CLASSES = "classes.csv"
COPIES = "copies.csv"
PICTURE = "samples.png"
STUDY = "study.json"
SHOWN = 10  # images a class in the picture
AT_ONCE = 1000  # images that features are extracted of
PART = "part"


@dataclass(frozen=True)
class Outcome:
    """What a finished run adds to its record."""

    streams: str
    weights: str
    cost: Cost
    metrics: list[Metric]
    diagnostics: list[dict[str, JsonValue]]
    files: list[Path]
    """To be kept beside the record."""

    def fields(self) -> dict[str, Any]:
        """The record's fields."""
        return vars(self) | {"files": [path.name for path in self.files]}


class Pipeline:
    """The stages of one run; each property is the folder or the content of a finished stage."""

    def __init__(
        self, plan: Plan, options: Options, device: torch.device, report: Reporter, processes: Processes = ALONE
    ) -> None:
        self.plan, self.options, self.device, self.report, self.processes = plan, options, device, report, processes
        self.inputs = plan.stage_inputs()
        self.stages = Stages(options.work_dir, report.say, processes)
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
            ),
            metrics=[Metric.model_validate(metric) for metric in json.loads((score / METRICS).read_text())],
            diagnostics=train_summary["diagnostics"],
            files=[
                trained / training.LOG,
                *(trained / name for name in train_summary["artifacts"]),
                *(trained / name for name in train_summary.get("pictures", ())),  # of late
                score / CLASSES,
                score / COPIES,
                score / PICTURE,
            ],
        )

    @functools.cached_property
    def data(self) -> Dataset:
        """The task's data."""
        task = self.plan.task
        folder = self.stages.run("prepare", self.inputs["prepare"], lambda folder: task.prepare(folder, self.report))
        return task.open(folder, self.plan.backbone.image_shape)

    @functools.cached_property
    def backbone(self) -> Backbone:
        """The pretrained backbone."""
        return self._fresh_backbone()

    def _fresh_backbone(self) -> Backbone:
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

    @functools.cached_property
    def studied(self) -> dict[str, JsonValue]:
        """What the method found out of the pretrained backbone and the data before training, if it asks for that."""
        if self.trainer is not self:
            return self.trainer.studied
        if not self.plan.method.studies:
            return {}
        folder = self.stages.run("study", self.inputs["study"], self._study, together=True)
        found: dict[str, JsonValue] = json.loads((folder / STUDY).read_text())
        return found

    def _study(self, folder: Path) -> None:
        spec, backbone = self.plan.spec, self.backbone.to(self.device)
        study = Study(
            spec.task.name,
            self.plan.task,
            spec.seed,
            backbone,
            self.device,
            lambda: self.data,
            lambda: self.latents,
            lambda: self.embed,
        )
        found = self.plan.method.study(study)
        if self.processes.is_first:
            write_json(folder / STUDY, found)

    @functools.cached_property
    def trainer(self) -> Pipeline:
        """The pipeline of the run that fine-tunes the backbone: this one, or that of the task's generator."""
        if not self.plan.generator:
            return self
        return Pipeline(self.plan.generator, self.options, self.device, self.report, self.processes)

    @functools.cached_property
    def trained(self) -> Path:
        """Folder of the fine-tuned weights."""
        if self.trainer is not self:
            return self.trainer.trained
        return self.stages.run("train", self.inputs["train"], self._train, together=True)

    @functools.cached_property
    def latents(self) -> LatentSource:
        """Latents of the training images: stored, where an autoencoder makes them."""
        if not self.plan.backbone.description.autoencoder:
            return Pixels(self.data.train, self.backbone)
        return Latents(self.stages.run("latents", self.inputs["latents"], self._encode_images, together=True))

    @functools.cached_property
    def embed(self) -> Callable[[Sequence[str]], PromptEmbeddings]:
        """Embeddings of the prompts of training and of generation: stored, where text encoders make them."""
        if not self.plan.backbone.description.text_encoder:
            return KnownPrompts(self._prompts(), self.backbone)
        return StoredPrompts(self.stages.run("prompts", self.inputs["prompts"], self._encode_prompts, together=True))

    def _prompts(self) -> list[str]:
        """The null condition and every prompt of the training images and the classes."""
        classes = (info.prompt for info in self.plan.task.classes())
        return sorted({"", *self.data.train.prompts, *classes})

    def _encode_images(self, folder: Path) -> None:
        split, flip = self.data.train, self.plan.spec.budget.horizontal_flip
        self.backbone.to(self.device)
        encode_latents(split, self.backbone, flip, folder, self.processes, self.report)
        self.backbone.release_encoders()

    def _encode_prompts(self, folder: Path) -> None:
        prompts = self._prompts()
        self.backbone.to(self.device)
        encode_prompts(prompts, self.backbone, folder, self.processes, self.report)
        self.backbone.release_encoders()

    @functools.cached_property
    def generated(self) -> Path:
        """Folder of the generated images."""
        return self.stages.run("generate", self.inputs["generate"], self._generate, together=True)

    @functools.cached_property
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
        """Features of a split's images under the stage ``name``, in a file that ``grasp-bench score`` reads too."""

        def build(folder: Path) -> None:
            features = self._extract(split, folder)
            self.processes.wait()  # until all have read the parts
            if self.processes.is_first:
                labels = [self.classes[label].name for label in split.labels]
                write_features(folder / FEATURES, FeatureSet(features, labels, split.ids, self._identity))
                remove_checked(folder, PART)

        made = self.stages.run(name, self.inputs[name], build, together=True)
        return LabelledFeatures(read_features(made / FEATURES).features, split.labels, split.ids)

    def _extract(self, split: Split, folder: Path) -> np.ndarray:
        """Features (n, d) of a split, a part of which is in memory at a time; what is done stays in ``folder``."""
        parts = np.array_split(np.arange(len(split)), -(-len(split) // AT_ONCE))
        extractor = self.loaded_extractor
        done = self.processes.first_says(
            lambda: [n for n, path in find_checked(folder, PART) if load_checked(path, self.report.say)]
        )
        with self.report.task("features", len(split), sum(len(parts[number]) for number in done)) as advance:
            for number in self.processes.share([number for number in range(len(parts)) if number not in done]):
                features = extractor.features(split.read(parts[number]))
                save_checked(folder, PART, number, {"features": torch.from_numpy(np.ascontiguousarray(features))})
                advance(len(parts[number]))
        self.processes.wait()
        return np.concatenate([read_tensors(path)["features"].numpy() for _, path in find_checked(folder, PART)])

    @functools.cached_property
    def extractor(self) -> Path:
        """Folder of the feature extractor."""
        data = self.data  # a stage of its own, which the one below may not run
        return self.stages.run(
            "extractor",
            self.inputs["extractor"],
            lambda folder: self.plan.extractor.build(data, len(self.classes), folder),
        )

    @functools.cached_property
    def loaded_extractor(self) -> Extractor:
        """The feature extractor."""
        return self.plan.extractor.load(self.extractor)

    @property
    def _identity(self) -> dict[str, str] | None:
        """What the features depend on, where the extractor says it."""
        extractor = self.loaded_extractor
        return extractor.identity if isinstance(extractor, PretrainedExtractor) else None

    def _train(self, folder: Path) -> None:
        if not self._has(folder / training.SUMMARY):
            self._train_from_checkpoint(folder)
        if self.processes.is_first:
            remove_checked(folder, checkpoint.KIND)

    def _has(self, path: Path) -> bool:
        """Whether a file of an unfinished stage is there, in the eyes of the first process."""
        return self.processes.first_says(path.exists)

    def _train_from_checkpoint(self, folder: Path) -> None:
        plan, options, split = self.plan, self.options, self.data.train
        latents, embed = self.latents, self.embed
        added = self.attach()
        trains = plan.method.parameters()
        count = sum(parameter.numel() for parameter in trains.values())
        self.report.say(f"trains {count:,} parameters: {trained_names(trains)}")
        if options.gradient_checkpointing:
            self.backbone.enable_gradient_checkpointing()
        counts = np.bincount(split.labels, minlength=len(self.classes))
        weights, loss_weights = plan.method.sample_weights(counts), plan.method.loss_weights(counts)
        batches = Batches(
            plan.spec,
            split,
            self.backbone,
            latents,
            embed,
            self.device,
            weights,
            self.processes,
            loss_weights,
            plan.method.training_clusters(split),
        )
        execution = training.Execution(
            self.device, self.processes, options.log_every, options.accumulate, options.shard, options.compile
        )
        name = f"{plan.label} on {plan.task_label}, seed {plan.spec.seed}"
        with tracking(options.trackers, options.work_dir / "trackers", name, plan.spec.model_dump(mode="json")) as log:
            training.train(
                plan.spec,
                self.backbone,
                plan.method,
                added,
                batches,
                training.GroupLoss(plan.task.groups, plan.task.group_indices()),
                folder,
                execution,
                self.report,
                log,
            )
        del self.backbone  # it may be compiled, in shards or in half precision: images are made by a fresh one

    def _generate(self, folder: Path) -> None:
        if not self._has(folder / generation.SUMMARY):
            self._generate_remaining(folder)
        if self.processes.is_first:
            remove_checked(folder, generation.KIND)

    def _generate_remaining(self, folder: Path) -> None:
        trained = self.trained  # first, since training ends with another backbone
        embed = self.trainer.embed
        self.attach()
        self.plan.method.load_state_dict(read_tensors(trained / training.WEIGHTS))
        precision = self.plan.trained_on.spec.budget.precision
        sampler = generation.Sampler(self.backbone, self.plan.method, self.plan.guidance, self.device, precision, embed)
        self._prepare_guidance(sampler)
        subjects = [generation.Subject(info.prompt, index) for index, info in enumerate(self.classes)]
        if self.plan.generator:
            known = self.plan.generator.task
            infos, indices = known.classes(), self.plan.task.generator_classes(known)
            subjects = [generation.Subject(infos[index].prompt, index) for index in indices]
        generation.generate(
            self.plan.spec, subjects, sampler, folder, self.options.batch_size, self.processes, self.report
        )

    def _prepare_guidance(self, sampler: generation.Sampler) -> None:
        """Let the guidance learn what it needs, once, and make itself ready."""
        guidance, trainer = self.plan.guidance, self.trainer
        sampler.place(self.backbone)
        workshop = Workshop(
            self.plan.spec,
            trainer.plan.task,
            self.backbone,
            self.plan.method,
            self.device,
            sampler.embed,
            sampler.networks[0],
            lambda: trainer.data,
            trainer.trained_after,
            lambda weights: self._second_network(sampler, weights),
            self.report,
        )
        folder = None
        if guidance.learns:
            _ = trainer.data  # a stage of its own, which the one below may not run
            folder = self.stages.run("guide", self.inputs["guide"], functools.partial(guidance.learn, workshop))
        guidance.prepare(workshop, folder)

    def trained_after(self, steps: int) -> Path:
        """Folder of the weights that the same run had after ``steps``; all that it sees is a function of the step."""
        spec, method = self.plan.spec, self.plan.method
        shorter = spec.model_copy(update={"budget": spec.budget.model_copy(update={"steps": steps})})
        plan = replace(self.plan, spec=shorter, method=type(method)(method.config))
        return Pipeline(plan, self.options, self.device, self.report, self.processes).trained

    def _second_network(
        self, sampler: generation.Sampler, weights: dict[str, torch.Tensor] | None
    ) -> generation.Network:
        """A network beside the sampler's own: with other weights of the method, or without the method."""
        spec, task, own = self.plan.trained_on.spec, self.plan.trained_on.task, self.plan.method
        backbone = self._fresh_backbone()
        method: Method[MethodSettings] = Method(own.config)
        if weights is not None:
            method = type(own)(own.config)
            method.studied = own.studied
            method.attach(backbone, task, seeds.generator("init", spec.task.name, spec.seed, spec.method.name))
            method.load_state_dict(weights)
        store_frozen(backbone.transformer, sampler.precision)
        sampler.place(backbone.to(self.device))
        network = generation.Network(backbone, method, self.device, sampler.precision)
        sampler.networks.append(network)
        return network

    def _classify(self, folder: Path, source: str) -> None:
        """Train classifiers on the images of ``source`` and keep what they say of the test images."""
        recipe, spec = self.plan.recipe, self.plan.spec
        finished = [folder / f"classifier-{number}.safetensors" for number in range(recipe.seeds)]
        with self.report.task(f"classify ({source})", recipe.seeds * recipe.epochs) as advance:
            for number in self.processes.share(range(recipe.seeds)):
                path = finished[number]
                if path.exists():
                    advance(recipe.epochs)
                    continue
                model = classifier.train(
                    self._sources[source],
                    self.data.validation,
                    len(self.classes),
                    recipe,
                    (spec.task.name, spec.seed, source, number),
                    folder / str(number),
                    self.device,
                    advance,
                    self.report.say,
                )
                found = {
                    name: torch.from_numpy(classifier.probabilities(model, test, recipe, self.device))
                    for name, test in self._tests.items()
                }
                write_tensors(path, found)
        self.processes.wait()
        if not self.processes.is_first:
            return
        each = [read_tensors(path) for path in finished]
        write_tensors(folder / PROBABILITIES, {name: torch.stack([one[name] for one in each]) for name in each[0]})
        for path in finished:
            path.unlink()

    @functools.cached_property
    def _sources(self) -> dict[str, Split]:
        """What classifiers are trained on."""
        real, made = self.data.train, self.images
        return {"generated": made, "real": real, "topped-up": topped_up(real, made, len(self.classes))}

    @functools.cached_property
    def _tests(self) -> dict[str, Split]:
        """What classifiers are tested on."""
        balanced = self.data.balanced_test
        return {"test": self.data.test} | ({"balanced-test": balanced} if balanced else {})

    def _probabilities(self) -> dict[str, dict[str, np.ndarray]]:
        """Source → test set → what classifiers trained on it say of its images: (classifiers, n, classes)."""
        stages = {"generated": "classify-generated", "real": "classify-real", "topped-up": "classify-topped-up"}
        found = {}
        for source, stage in stages.items():
            build = functools.partial(self._classify, source=source)
            made = self.stages.run(stage, self.inputs[stage], build, together=True)
            tensors = read_tensors(made / PROBABILITIES)
            found[source] = {name: each.numpy() for name, each in tensors.items()}
        return found

    def _scored(self) -> Path:
        """Folder of the scores."""
        if self.stages.is_finished("score", self.inputs["score"]):
            return self.stages.folder("score", self.inputs["score"])
        data, images = self.data, self.images
        real = self.features("features-real", data.test)
        train, fake = self.features("features-train", data.train), self.features("features", images)
        probabilities = self._probabilities()
        build = functools.partial(self._score, real=real, train=train, fake=fake, probabilities=probabilities)
        return self.stages.run("score", self.inputs["score"], build)

    def _score(
        self,
        folder: Path,
        real: LabelledFeatures,
        train: LabelledFeatures,
        fake: LabelledFeatures,
        probabilities: dict[str, dict[str, np.ndarray]],
    ) -> None:
        task, images = self.plan.task, self.images
        scores = fidelity_and_diversity(task, real, fake, train)
        fid = self._identity is not None and is_fid(self._identity)
        metrics = fidelity_metrics(scores, task.extractor, fid)
        metrics += downstream_metrics(task, self.plan.spec.task.name, self._tests, probabilities)
        write_bytes(folder / CLASSES, class_table(self.classes, scores, self._tests, probabilities).encode())
        write_bytes(folder / COPIES, copies_table(self.classes, fake, train).encode())
        rows = [
            (
                f"{info.name}  {info.group} ({info.train_count})",
                images.read(np.flatnonzero(images.labels == index)[:SHOWN]),
            )
            for index, info in enumerate(self.classes)
        ]
        title = f"{self.plan.label} on {self.plan.task_label}, seed {self.plan.spec.seed}"
        write_grid(folder / PICTURE, rows, f"{title}: class, group (training images)")
        write_json(folder / METRICS, [metric.model_dump(mode="json") for metric in metrics])
