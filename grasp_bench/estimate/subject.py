"""What is estimated: a run as its command line names it, of which neither weights nor data have to be there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path

from pydantic import JsonValue

from grasp_bench import plugins
from grasp_bench.contracts.guidance import Guidance
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.contracts.settings import Settings, parse_settings
from grasp_bench.contracts.spec import STANDARD, Budget, Component, Precision, RunSpec
from grasp_bench.contracts.task import MissingDataError, Task, TaskSettings
from grasp_bench.data.root import data_root as data_root_of
from grasp_bench.errors import UserError
from grasp_bench.estimate.configured import Depths
from grasp_bench.run.plan import TRAINING
from grasp_bench.run.resolve import make_task

PRECISION: Precision = "bfloat16"
"""What large backbones are fine-tuned in."""


@dataclass(frozen=True)
class Subject:
    """A run before anything of it is made."""

    spec: RunSpec
    method: Method[MethodSettings]
    guidance: Guidance[Settings]
    task: Task[TaskSettings]
    """The task that the method is fine-tuned on."""
    sampled: Task[TaskSettings]
    """The task whose classes images are generated of; the same, unless that has a generator."""
    backbone: str
    """As ``--backbone`` names it."""
    resolution: int | None
    """Pixels a side; None: the backbone's own."""
    studied: dict[str, JsonValue] = field(default_factory=dict)
    """What the method found out about the data, of one that has to."""
    depths: Depths | None = None
    """Blocks of each kind, where they are others than the backbone's."""

    @property
    def budget(self) -> Budget:
        """What every method gets on the task."""
        return self.spec.budget

    def fresh(self) -> Method[MethodSettings]:
        """Return the method once more, not attached to anything."""
        method = type(self.method)(self.method.config)
        method.studied = self.studied
        return method

    def mixed(self, count: int) -> list[int]:
        """Return the class indices of ``count`` samples that are of as many groups as possible."""
        by_group: dict[str, list[int]] = {}
        for index, info in enumerate(self.task.classes()):
            by_group.setdefault(info.group, []).append(index)
        rounds = chain.from_iterable(zip_longest(*by_group.values()))
        order = [index for index in rounds if index is not None]
        return [order[number % len(order)] for number in range(count)]


def choose(
    method: str,
    task: str,
    backbone: str | None = None,
    *,
    guidance: str | None = None,
    budget: str = STANDARD,
    resolution: int | None = None,
    studied: dict[str, JsonValue] | None = None,
    method_settings: Iterable[str] = (),
    task_settings: Iterable[str] = (),
    guidance_settings: Iterable[str] = (),
) -> Subject:
    """Return the run of these names and ``NAME=VALUE`` settings; its precision is bfloat16 unless they say otherwise.

    Raises :class:`UserError` for what is unknown or out of bounds, and for a method that has to look at the data
    before it can be attached and is not given what it finds there, ``studied``.
    """
    name, sampled = _task(task, task_settings)
    kind = plugins.load("methods", method)
    chosen = kind(parse_settings(kind.Config, method_settings, f"method {method}", {}))
    if chosen.studies and studied is None:
        raise UserError(
            f"method {method}, settings {chosen.config.changed()}: it looks at the task's images or prompts before it "
            "is attached, which an estimate cannot. Estimate one that does not, such as lora or partition=group of "
            "grasp: what a step takes hardly depends on it."
        )
    guide = guidance or sampled.guidance
    guidance_kind = plugins.load("guidance", guide)
    guided = guidance_kind(parse_settings(guidance_kind.Config, guidance_settings, f"guidance {guide}", {}))
    trained = _task(sampled.generator, ())[1] if sampled.generator else sampled
    spec = RunSpec(
        task=Component(name=name, version=sampled.version),
        method=Component(name=method, version=kind.version),
        backbone=Component(name=backbone or sampled.backbone, version="configuration"),
        guidance=Component(name=guide, version=guidance_kind.version),
        budget=_budget(name, sampled, budget),
        seed=0,
    )
    return Subject(spec, chosen, guided, trained, sampled, backbone or sampled.backbone, resolution, studied or {})


def _task(name: str, assignments: Iterable[str]) -> tuple[str, Task[TaskSettings]]:
    """Return a task with the folder of its data where that is known, without it otherwise."""
    if name.endswith(".toml"):
        return make_task(name, assignments, None)
    kind = plugins.load("tasks", name)
    config = parse_settings(kind.Config, assignments, f"task {name}", {})
    task: Task[TaskSettings] = kind(config, _root(name) if kind.layout else None)
    try:
        task.classes()
    except MissingDataError:
        vars(task)["classes"] = task.outline
    return name, task


def _root(task: str) -> Path | None:
    try:
        return data_root_of(task, None)
    except UserError:
        return None


def _budget(name: str, task: Task[TaskSettings], budget: str) -> Budget:
    if budget not in task.budgets:
        raise UserError(f"task {name} has no budget {budget!r}. It has: {', '.join(task.budgets)}.")
    settings = {name: getattr(task.config, name) for name in (*TRAINING, "evaluations")}
    if "precision" not in task.config.model_fields_set:
        settings["precision"] = PRECISION
    return task.budgets[budget].model_copy(update=settings)
