"""The parts of a run, from the names and settings that a user gives or a record keeps; imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from pydantic import ValidationError

from grasp_bench import plugins
from grasp_bench.backbones.aliases import available, resolve
from grasp_bench.backbones.files import MissingFilesError
from grasp_bench.contracts.backbone import Backbone, ChosenBackbone, Description
from grasp_bench.contracts.guidance import Guidance
from grasp_bench.contracts.settings import Settings, parse_settings, settings_of
from grasp_bench.contracts.spec import Budget, Component, RunSpec
from grasp_bench.contracts.task import MissingDataError, Task, TaskSettings
from grasp_bench.data.root import data_root as data_root_of
from grasp_bench.errors import UserError, first_fault
from grasp_bench.run.recipes import check_settings
from grasp_bench.weights import timm_file

S = TypeVar("S", bound=Settings)
SMALL = "tiny-sd3-32"
"""The backbone with which everything can be tried without weights of others."""
Describe = Callable[[type[Backbone], str, int | None], Description]
"""Backbone, source and resolution → its description."""


def choose_backbone(
    name: str,
    download: Callable[[str], None] | None = None,
    resolution: int | None = None,
    preferred: int | None = None,
    describe: Describe | None = None,
) -> ChosenBackbone:
    """Return a backbone by its name or alias, or by its name, a colon and the source of its weights.

    With ``download``, which is told what is fetched, weights that are not here are fetched. ``resolution`` is in pixels
    a side; without one it is the ``preferred`` one where the weights support that, and else their native one.
    ``describe`` stands in for the backbone's own :meth:`~Backbone.describe`. Raises :class:`UserError` for what is
    unknown, not there or not supported.
    """
    family, source = resolve(name)
    kind = plugins.load("backbones", family)
    if download:
        kind.download(source, download)
    described = partial(describe, kind) if describe else kind.describe
    description = described(source, resolution)
    if resolution is None and preferred in description.recipe.resolutions and preferred != description.native:
        resolution, description = preferred, described(source, preferred)
    called = f"{family}-{description.revision[:8]}" if ":" in name else name
    return ChosenBackbone(family, kind, source, called, description, resolution)


def caution(backbone: ChosenBackbone, task: Task[TaskSettings]) -> str:
    """Return what headings say of a backbone where the task asks for a real one; empty where nothing is to be said."""
    own = plugins.load("backbones", resolve(task.backbone)[0])
    return "" if own.caution else backbone.kind.caution


def with_found_weights(task: Task[TaskSettings]) -> Task[TaskSettings]:
    """Return the task with classifiers that start from its weights of ImageNet, if their file is here.

    Settings that are given by hand stay, another network among them.
    """
    tag, network = task.network_weights, task.classifier.network
    if tag is None or {"network", "network_weights"} & task.config.model_fields_set:
        return task
    if not timm_file(network.removeprefix("timm:"), tag).is_file():
        return task
    found = copy(task)
    given = {name: getattr(task.config, name) for name in task.config.model_fields_set}
    found.config = settings_of(type(task.config), given | {"network_weights": tag})
    found.classifier = replace(task.classifier, initial=tag)
    return found


def make_task(name: str, assignments: Iterable[str], data_root: Path | None) -> tuple[str, Task[TaskSettings]]:
    """Return the name of a task and the task with its data's folder, given its name or the TOML file that describes it.

    Raises :class:`UserError` for what is unknown, and where a task's data is not there.
    """
    if name.endswith(".toml"):
        if data_root:
            raise UserError(f"--data-root {data_root}: {name} says itself where its images are. Leave it out.")
        return cast(tuple[str, Task[TaskSettings]], plugins.load("tasks", "folder").from_file(Path(name), assignments))
    task_class = plugins.load("tasks", name)
    if task_class.described_by_file:
        raise UserError(
            f"task {name} is described by a TOML file: `grasp-bench new task` writes one; then --task FILE.toml."
        )
    if data_root and not task_class.layout:
        raise UserError(f"--data-root {data_root}: task {name} reads no download. Leave it out.")
    config = parse_settings(task_class.Config, assignments, f"task {name}", {})
    return name, task_class(config, data_root_of(name, data_root) if task_class.layout else None)


@dataclass(frozen=True)
class Opening:
    """How the parts of a plan are found by what a user names them."""

    task: Callable[[str, Iterable[str], Path | None], tuple[str, Task[TaskSettings]]] = make_task
    """What finds a task, called like :func:`make_task`."""
    backbone: Callable[[str, Callable[[str], None] | None, int | None, int | None], ChosenBackbone] = choose_backbone
    """What finds a backbone, called like :func:`choose_backbone`."""

    def chosen(
        self,
        named: str | None,
        download: Callable[[str], None] | None,
        resolution: int | None,
        name: str,
        task: Task[TaskSettings],
    ) -> ChosenBackbone:
        """Return the backbone that is named, or else the one that the task ``name`` asks for.

        Raises :class:`UserError` as :func:`choose_backbone`, with a way to do without weights that the task asks for.
        """
        try:
            return self.backbone(named or task.backbone, download, resolution, task.resolution)
        except MissingFilesError as error:
            if named:
                raise
            raise MissingFilesError(
                f"{error} It is the backbone that {name} asks for ({task.backbone}). To try everything without its "
                f"weights: --backbone {SMALL}, which ships with the package, and shows that the code runs."
            ) from error


INSTALLED = Opening()
"""Data and weights that are on this machine."""


def choose_same_backbone(asked: Component, named: str | None) -> ChosenBackbone:
    """Return the backbone of a recorded run.

    Without a name, published weights on this machine are found by their revision. Raises :class:`UserError` where
    another one is named, or where it has to be named and is not.
    """
    name, size = asked.name, asked.settings.get("resolution")
    resolution = size if isinstance(size, int) else None
    if named and resolve(named)[0] != name:
        raise UserError(f"--backbone {named}: the run is of backbone {name}, and its weights fit no other.")
    try:
        chosen = choose_backbone(named, resolution=resolution) if named else _found(asked, resolution)
    except UserError as error:
        if named:
            raise
        raise UserError(
            f"the run is of backbone {name}@{asked.version}, whose files are not part of it. Name them: "
            f"--backbone {name}:FOLDER. ({error})"
        ) from error
    if (revision := chosen.description.revision) != asked.version:
        raise UserError(
            f"backbone {named or name} is of revision {revision}, the run was made with {asked.version}: its weights "
            f"fit no other. Name the pretrained weights of that revision: --backbone {name}:FOLDER."
        )
    check_settings(asked.settings, chosen.description.settings, chosen.name)
    return chosen


def _found(asked: Component, resolution: int | None) -> ChosenBackbone:
    """Return the backbone of that name or, where it needs a source, the alias whose weights are of its revision."""
    aliases = [alias for alias, named in available().items() if named.partition(":")[0] == asked.name]
    for alias in aliases:
        try:
            chosen = choose_backbone(alias, resolution=resolution)
        except UserError:
            continue
        if chosen.description.revision == asked.version:
            return chosen
    return choose_backbone(asked.name, resolution=resolution)


def restored(kind: Literal["methods", "guidance"], asked: Component) -> Any:
    """Return the method or guidance of a recorded run.

    Raises :class:`UserError` where it is unknown or of another version.
    """
    plugin, owner = plugins.load(kind, asked.name), f"{plugins.SINGULAR[kind]} {asked.name}"
    if plugin.version != asked.version:
        raise UserError(
            f"{owner} is of version {plugin.version} here, the run was made with {asked.version}. Install the version "
            "of grasp-bench or of the plugin that made it, or run it again."
        )
    return plugin(validated(plugin.Config, asked.settings, owner))


def validated(model: type[S], settings: dict[str, Any], owner: str) -> S:
    """Return recorded settings. Raises :class:`UserError` for those that this version does not accept."""
    try:
        return settings_of(model, settings)
    except ValidationError as error:
        raise UserError(
            f"settings of {owner}: {first_fault(error)}. They are of another version, which has to be installed, or "
            "were edited."
        ) from error


def recorded_task(asked: Component, file: Path | None = None, data_root: Path | None = None) -> Task[TaskSettings]:
    """Return the task of a recorded run, with the folder of its data only where its classes come with them."""
    if asked.name not in plugins.entries("tasks"):
        if file is None:
            raise UserError(f"the run is of task {asked.name}, which a TOML file describes. Name it: --task FILE.toml.")
        name, described = make_task(str(file), (), data_root)
        if name != asked.name:
            raise UserError(f"--task {file}: it is called {name}, but the run is of task {asked.name}.")
        return described
    if file is not None:
        raise UserError(f"--task {file}: the run is of task {asked.name}, which no file describes. Leave it out.")
    kind = plugins.load("tasks", asked.name)
    config = validated(kind.Config, asked.settings, f"task {asked.name}")
    if data_root and not kind.layout:
        raise UserError(f"--data-root {data_root}: task {asked.name} reads no download. Leave it out.")
    if data_root is None:
        task: Task[TaskSettings] = kind(config)
        try:
            task.classes()
        except MissingDataError:
            pass
        else:
            return task
    with_data: Task[TaskSettings] = kind(config, data_root_of(asked.name, data_root))
    return with_data


def owned_elsewhere(
    task: str, chosen: Task[TaskSettings], guidance: str, guidance_class: type[Guidance[Settings]]
) -> dict[str, str]:
    """Name → whose it is, for whatever a method cannot set."""
    shared = "and is the same for every method"
    return (
        dict.fromkeys(("extractor", "classifier", "prompts", "objective"), f"it belongs to task {task} {shared}.")
        | dict.fromkeys(Budget.model_fields, f"it belongs to the budget of task {task} {shared}; use --budget.")
        | dict.fromkeys(chosen.Config.model_fields, f"it belongs to task {task} {shared}; use --task-set.")
        | dict.fromkeys(guidance_class.Config.model_fields, f"it belongs to guidance {guidance}; use --guidance-set.")
        | {"seed": "it belongs to the run; use --seed."}
    )


def check_steps(spec: RunSpec, guidance: Guidance[Settings]) -> None:
    """Refuse evaluations that are too few for a single step."""
    if not guidance.steps(spec.budget):
        raise UserError(
            f"evaluations={spec.budget.evaluations}: a step of guidance {spec.guidance.name} takes "
            f"{guidance.evaluations(1)} network evaluations. Set {guidance.evaluations(1)} or more, or choose another "
            "guidance."
        )
