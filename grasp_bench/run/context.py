"""What a run's stages share, and how a stage is declared; imports no torch, so that stages' keys are quick."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import JsonValue

from grasp_bench import seeds
from grasp_bench.contracts.backbone import Backbone, PromptEmbeddings
from grasp_bench.contracts.extractor import Extractor
from grasp_bench.contracts.guidance import Workshop
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.study import LatentSource, Study
from grasp_bench.contracts.task import Dataset, Split
from grasp_bench.io import mapped_tensor, read_tensors
from grasp_bench.processes import Processes
from grasp_bench.run.files import IMAGES, SETS, STUDY, WEIGHTS
from grasp_bench.run.options import Options
from grasp_bench.run.plan import Plan
from grasp_bench.run.seal import stage_key
from grasp_bench.run.store import Store
from grasp_bench.run.threads import threads_taken

if TYPE_CHECKING:
    import numpy as np
    import torch

    from grasp_bench.sampling import Network, Sampler

Inputs = dict[str, JsonValue]
"""What decides the outcome of a stage."""


@dataclass(frozen=True)
class Stage:
    """A part of a run whose outcome is kept in a folder, named by the hash of what decides it."""

    name: str
    version: int
    """Must be raised when what the stage computes changes: stale work is then redone, and nothing else."""
    after: tuple[str, ...]
    """Names of the stages that are finished before this one is built, where the run has them."""
    inputs: Callable[[Plan, Mapping[str, str]], Inputs | None]
    """Returns what decides the outcome beside the version, given the keys of the stages in ``after``; None where the
    run has no such stage."""
    build: Callable[[Context, Path, Mapping[str, Path]], None]
    """Leaves the outcome of the stage in a folder, given the folders of the stages in ``after`` by their names."""
    alone: bool = False
    """Whether the first process builds the stage alone, in which case ``build`` must not open another stage."""
    compared: bool = True
    """Whether records compare only where they agree on the version; not so for what belongs to one backbone, method
    or guidance."""
    cache: bool = False
    """Whether the stage is large and only saves computing the same again, so that it may lie apart and vanish."""
    of_training: bool = False
    """Whether the stage belongs to the run that fine-tunes the backbone, which is another run where the task has a
    generator."""


def numbered(name: str, position: int) -> str:
    """Return the name of a stage that a run has for each of its extractors; the first one's has no number."""
    return f"{name}-{position + 1}" if position else name


def stage_inputs(stages: Mapping[str, Stage], plan: Plan) -> dict[str, Inputs]:
    """Return what decides the outcome of every stage of a run, in which stages are referred to by their keys."""
    trained = stage_inputs(stages, plan.generator) if plan.generator else {}
    found: dict[str, Inputs] = {}
    keys: dict[str, str] = {}
    for name, stage in stages.items():
        if stage.of_training and (plan.generator or plan.entry):
            inputs = trained.get(name) if name == "train" else None
        else:
            inputs = stage.inputs(plan, {before: keys[before] for before in stage.after if before in keys})
            inputs = None if inputs is None else {"stage_version": stage.version} | inputs
        if inputs is not None:
            found[name], keys[name] = inputs, stage_key(name, inputs)
    return found


class Context:
    """A run that is carried out. Whatever its stages share is made or opened when it is first asked for.

    Several processes that share a run must ask for stages in the same order.
    """

    detaches: ClassVar[bool] = False
    """Whether methods are taken off their backbones again."""

    def __init__(
        self,
        plan: Plan,
        options: Options,
        device: torch.device,
        progress: Progress,
        processes: Processes,
        stages: Mapping[str, Stage],
    ) -> None:
        self.plan, self.options, self.device, self.progress, self.processes = plan, options, device, progress, processes
        self.stages, self.inputs = stages, stage_inputs(stages, plan)
        store = partial(Store, say=progress.say, processes=processes, verify=options.verify_stages)
        self.store = store(options.work_dir, sync_to=options.sync_to)
        self.caches = store(options.cache_dir) if options.cache_dir else self.store
        self.classes = plan.task.classes()
        self._folders: dict[str, Path] = {}

    def folder(self, name: str) -> Path:
        """Return the folder of a finished stage; what is missing of it and of the stages before it is built."""
        stage = self.stages[name]
        if stage.of_training and self.trainer is not self:
            return self.trainer.folder(name)
        if name not in self._folders:
            self._folders[name] = self._finished(stage)
        return self._folders[name]

    def _finished(self, stage: Stage) -> Path:
        inputs, store = self.inputs[stage.name], self.caches if stage.cache else self.store
        if store.is_finished(stage.name, inputs):
            found = store.folder(stage.name, inputs)
            self.progress.detail(f"{stage.name}: reused from {found}")
            return found
        upstream = {name: self.folder(name) for name in stage.after if self.has(name)}
        with threads_taken(self.options.threads, self.plan.threads):
            made = store.run(
                stage.name, inputs, lambda folder: stage.build(self, folder, upstream), together=not stage.alone
            )
        self.progress.detail(f"{stage.name}: finished in {made}")
        return made

    def has(self, name: str) -> bool:
        """Whether the run has a stage of this name."""
        return name in (self.trainer if self.stages[name].of_training else self).inputs

    def _same(self, plan: Plan) -> Context:
        """Return the context of another plan that is carried out in the same way."""
        return Context(plan, self.options, self.device, self.progress, self.processes, self.stages)

    @cached_property
    def trainer(self) -> Context:
        """The run that fine-tunes the backbone: this one, or that of the task's generator."""
        return self._same(self.plan.generator) if self.plan.generator else self

    @property
    def trained(self) -> Path:
        """Folder of the fine-tuned weights."""
        return self.folder("train")

    def trained_after(self, steps: int) -> Path:
        """Return the folder of the weights that this run had after ``steps``.

        They are those of a shorter training, since whatever a step sees is a function of its number.
        """
        spec, method = self.plan.spec, self.plan.method
        shorter = spec.model_copy(update={"budget": spec.budget.model_copy(update={"steps": steps})})
        return self._same(replace(self.plan, spec=shorter, method=type(method)(method.config))).trained

    @cached_property
    def data(self) -> Dataset:
        """The task's data."""
        return self.plan.task.open(self.folder("prepare"), self.plan.backbone.image_shape)

    @cached_property
    def backbone(self) -> Backbone:
        """The pretrained backbone; :meth:`attach` adds the method to it."""
        return self.fresh_backbone()

    def fresh_backbone(self) -> Backbone:
        """Return a pretrained backbone of its own, with no method attached."""
        backbone = self.plan.backbone.load()
        backbone.set_classes([info.prompt for info in self.plan.trained_on.task.classes()])
        return backbone

    def attach(self) -> set[torch.nn.Parameter]:
        """Attach the method to the backbone with its initial weights, and return the parameters that it added."""
        transformer = self.backbone.transformer
        pretrained = set(transformer.parameters())
        self._attach(self.plan.method, self.backbone)
        self.backbone.to(self.device)
        return set(transformer.parameters()) - pretrained

    def _attach(self, method: Method[MethodSettings], backbone: Backbone) -> None:
        from grasp_bench.precision import store_frozen

        spec, task = self.plan.trained_on.spec, self.plan.trained_on.task
        method.studied, method.detachable = self.studied, self.detaches
        method.attach(backbone, task, seeds.generator("init", spec.task.name, spec.seed, spec.method.name))
        store_frozen(backbone.transformer, spec.budget.precision)

    def study(self) -> Study:
        """Return what the method may look at before it is attached to the backbone."""
        spec, backbone = self.plan.spec, self.backbone.to(self.device)
        opened = (lambda: self.data, lambda: self.latents, lambda: self.embed)
        asked = self.options.gradient_checkpointing
        checkpointing = self.device.type == "cuda" if asked == "auto" else asked
        how = (spec.budget.precision, checkpointing, self.progress.say)
        return Study(spec.task.name, self.plan.task, spec.seed, backbone, self.device, *opened, *how)

    @cached_property
    def studied(self) -> dict[str, JsonValue]:
        """What the method found out about the pretrained backbone and the data before training; empty if nothing."""
        if not self.has("study"):
            return {}
        found: dict[str, JsonValue] = json.loads((self.folder("study") / STUDY).read_text())
        return found

    @cached_property
    def latents(self) -> LatentSource:
        """Latents of the training images: stored ones where an autoencoder computes them."""
        from grasp_bench.run.encoded import Latents, Pixels

        return Latents(self.folder("latents")) if self.has("latents") else Pixels(self.data.train, self.backbone)

    @cached_property
    def embed(self) -> Callable[[Sequence[str]], PromptEmbeddings]:
        """Embeddings of :attr:`prompts`, on the CPU: stored ones where text encoders compute them."""
        from grasp_bench.run.encoded import KnownPrompts, StoredPrompts

        return (
            StoredPrompts(self.folder("prompts")) if self.has("prompts") else KnownPrompts(self.prompts, self.backbone)
        )

    @property
    def prompts(self) -> list[str]:
        """The null condition, and every prompt of the training images and the classes."""
        return sorted({"", *self.data.train.prompts, *(info.prompt for info in self.classes)})

    @cached_property
    def sampler(self) -> Sampler:
        """The fine-tuned backbone under the guidance, ready to sample."""
        from grasp_bench.sampling import Sampler

        weights = self.trained / WEIGHTS  # first, since training ends with another backbone
        embed, plan = self.trainer.embed, self.plan
        self.attach()
        plan.method.load_state_dict(read_tensors(weights))
        precision = plan.trained_on.spec.budget.precision
        sampler = Sampler(self.backbone, plan.method, plan.guidance, self.device, precision, embed)
        sampler.place(self.backbone)
        return sampler

    def workshop(self) -> Workshop:
        """Return what the guidance may learn from and sample with."""
        sampler, trainer = self.sampler, self.trainer
        return Workshop(
            self.plan.spec,
            trainer.plan.task,
            self.backbone,
            self.plan.method,
            self.device,
            sampler.embed,
            sampler.networks[0],
            lambda: trainer.data,
            lambda steps: read_tensors(trainer.trained_after(steps) / WEIGHTS),
            self._second_network,
            self.progress,
        )

    def _second_network(self, weights: dict[str, torch.Tensor] | None) -> Network:
        """Return a network beside the sampler's own: with other weights of the method, or for None without it."""
        from grasp_bench.precision import store_frozen
        from grasp_bench.sampling import Network

        own, sampler, backbone = self.plan.method, self.sampler, self.fresh_backbone()
        method: Method[MethodSettings] = Method(own.config)
        if weights is None:
            store_frozen(backbone.transformer, sampler.precision)
        else:
            method = type(own)(own.config)
            self._attach(method, backbone)
            method.load_state_dict(weights)
        sampler.place(backbone.to(self.device))
        network = Network(backbone, method, self.device, sampler.precision)
        sampler.networks.append(network)
        return network

    @property
    def generated(self) -> Path:
        """Folder of the generated images."""
        return self.folder("generate")

    @cached_property
    def drawn(self) -> np.ndarray | None:
        """Rows of the training images whose label sets generated images get, (n,); None with one label per image."""
        from grasp_bench.data.label_sets import drawn_rows

        task, spec = self.plan.task, self.plan.spec
        if not task.multilabel:
            return None
        each, classes = spec.budget.images_per_class, len(self.classes)
        return drawn_rows(self.data.train, classes, each, task.label_sets, spec.task.name, spec.seed)

    @cached_property
    def images(self) -> Split:
        """The generated images."""
        images, labels = (mapped_tensor(self.generated / IMAGES, name) for name in ("images", "labels"))
        made = Split(
            ids=[f"generated/{number:08}" for number in range(len(labels))],
            labels=labels,
            prompts=[self.classes[label].prompt for label in labels],
            read=lambda indices: images[indices],
        )
        if (self.generated / SETS).is_file():  # an entry's, which says itself what its images show
            return replace(made, sets=read_tensors(self.generated / SETS)["sets"].numpy())
        if self.drawn is None:
            return made
        train = self.data.train
        return replace(made, prompts=[train.prompts[row] for row in self.drawn], sets=train.truth[self.drawn])

    @cached_property
    def extractors(self) -> tuple[Extractor, ...]:
        """The feature extractors behind fidelity and diversity."""
        chosen = self.plan.extractors
        return tuple(each.load(self.folder(numbered("extractor", at))) for at, each in enumerate(chosen))

    @property
    def extractor(self) -> Extractor:
        """The first of the extractors, by which settings are chosen."""
        return self.extractors[0]
