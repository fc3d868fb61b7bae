"""What is estimated: a run as its command line names it, of which neither weights nor data have to be there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path

from grasp_bench import plugins
from grasp_bench.contracts.guidance import Guidance
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.contracts.settings import Settings, parse_settings
from grasp_bench.contracts.spec import STANDARD, Budget, RunSpec
from grasp_bench.contracts.task import MissingDataError, Task, TaskSettings
from grasp_bench.data.root import data_root as data_root_of
from grasp_bench.errors import UserError
from grasp_bench.estimate.configured import Depths, describe
from grasp_bench.run.plan import Plan, plan
from grasp_bench.run.resolve import Opening, choose_backbone, make_task


@dataclass(frozen=True)
class Subject:
    """A run before anything of it is made."""

    plan: Plan
    depths: Depths | None = None
    """Blocks of each kind, where they are others than the backbone's."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Sizes of the method, such as a rank, where they are those that it has on another depth."""

    @property
    def spec(self) -> RunSpec:
        """What was asked for."""
        return self.plan.spec

    @property
    def budget(self) -> Budget:
        """What every method gets on the task that it is fine-tuned on."""
        return self.plan.trained_on.spec.budget

    @property
    def method(self) -> Method[MethodSettings]:
        """The method, not attached to anything."""
        return self.plan.method

    @property
    def guidance(self) -> Guidance[Settings]:
        """What images are sampled under."""
        return self.plan.guidance

    @property
    def task(self) -> Task[TaskSettings]:
        """The task that the method is fine-tuned on."""
        return self.plan.trained_on.task

    @property
    def sampled(self) -> Task[TaskSettings]:
        """The task whose classes images are generated of; the same, unless that has a generator."""
        return self.plan.task

    @property
    def backbone(self) -> str:
        """Its family and the source of its weights, as ``--backbone`` may name it."""
        chosen = self.plan.backbone
        return f"{chosen.family}:{chosen.source}" if chosen.source else chosen.family

    @property
    def named(self) -> str:
        """What results call the backbone."""
        return self.plan.backbone.name

    @property
    def resolution(self) -> int | None:
        """Pixels a side; None: the backbone's own."""
        return self.plan.backbone.resolution

    def fresh(self) -> Method[MethodSettings]:
        """Return the method once more, not attached to anything."""
        method = type(self.method)(self.method.config)
        method.sizes = dict(self.sizes)
        return method

    def mixed(self, count: int) -> list[int]:
        """Return the class indices of ``count`` samples that are of as many groups as possible."""
        by_group: dict[str, list[int]] = {}
        for index, info in enumerate(self.task.classes()):
            by_group.setdefault(info.group, []).append(index)
        rounds: Iterator[int | None] = chain.from_iterable(zip_longest(*by_group.values()))
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
    method_settings: Iterable[str] = (),
    task_settings: Iterable[str] = (),
    guidance_settings: Iterable[str] = (),
) -> Subject:
    """Return the run of these names and ``NAME=VALUE`` settings, planned as any run is, but without weights or data.

    Raises :class:`UserError` as :func:`~grasp_bench.run.plan.plan` does.
    """
    return Subject(
        plan(
            method=method,
            task=task,
            guidance=guidance,
            backbone=backbone,
            resolution=resolution,
            budget=budget,
            method_settings=method_settings,
            task_settings=task_settings,
            guidance_settings=guidance_settings,
            opening=WITHOUT_FILES,
        )
    )


def _task(name: str, assignments: Iterable[str], data_root: Path | None) -> tuple[str, Task[TaskSettings]]:
    """Return a task with the folder of its data where that is known, without it otherwise."""
    if name.endswith(".toml"):
        return make_task(name, assignments, data_root)
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


WITHOUT_FILES = Opening(_task, partial(choose_backbone, describe=describe))
"""Tasks by what is published of their data, and backbones by their configurations."""
