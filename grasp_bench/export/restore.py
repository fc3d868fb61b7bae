"""From a run's record back to what it was made of, and to its trained weights; imports no torch."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from grasp_bench import plugins
from grasp_bench.contracts.backbone import ChosenBackbone
from grasp_bench.contracts.record import RECORD_NAME, RunRecord, read_record
from grasp_bench.contracts.settings import Settings
from grasp_bench.contracts.spec import Component, RunSpec
from grasp_bench.contracts.task import MissingDataError, Task, TaskSettings
from grasp_bench.data.root import data_root as data_root_of
from grasp_bench.errors import UserError
from grasp_bench.io import file_digest
from grasp_bench.run.files import WEIGHTS
from grasp_bench.run.pipeline import stage_inputs
from grasp_bench.run.plan import TRAINING, Plan, choose_backbone, make_task
from grasp_bench.run.store import Store, stage_key

S = TypeVar("S", bound=Settings)


def find_record(run: Path) -> tuple[Path, RunRecord]:
    """Return the path and the content of a run's record, from its folder or its ``record.json``.

    Raises :class:`UserError` if there is none.
    """
    path = run / RECORD_NAME if run.is_dir() else run
    if not path.is_file():
        raise UserError(
            f"{path}: there is no such record. Name a run's folder, such as results/digits-lt/grasp/seed-0, or its "
            f"{RECORD_NAME}."
        )
    return path, read_record(path)


def finished_record(run: Path) -> tuple[Path, RunRecord]:
    """Return the path and the content of a finished run's record. Raises :class:`UserError` if there is none."""
    path, record = find_record(run)
    if record.status != "finished":
        reason = f" ({record.reason!r})" if record.reason else ""
        raise UserError(
            f"{path}: this run is {record.status}{reason}, so it has neither weights nor scores. Finish it first."
        )
    return path, record


def plan_of(
    record: RunRecord, task: Path | None = None, backbone: str | None = None, data_root: Path | None = None
) -> Plan:
    """The plan of the run that ``record`` tells of.

    A record holds no paths: ``task`` is the TOML file of a task that is described by one, ``backbone`` names its
    weights where they are the user's, as in ``sd3:/models/sd3.5-medium``, and ``data_root`` is looked at only where a
    task's classes come with its data. Raises :class:`UserError` that names the part that is not what it was.
    """
    found = plan_as_here(record.spec, task, backbone, data_root)
    _check_same(found, record)
    return found


def plan_as_here(
    spec: RunSpec, task: Path | None = None, backbone: str | None = None, data_root: Path | None = None
) -> Plan:
    """The plan of ``spec`` as this version makes it, arguments as :func:`plan_of` has them.

    Its specification is another than ``spec`` where the task is of another version or its data are others.
    """
    chosen = choose_same_backbone(spec.backbone, backbone)
    found = _plan(spec, _task(spec.task, task, data_root), chosen)
    return replace(found, generator=_generator_plan(found)) if found.task.generator else found


def choose_same_backbone(asked: Component, named: str | None) -> ChosenBackbone:
    """The backbone of a run. Raises :class:`UserError` where it is another, or has to be named and is not."""
    name = asked.name
    if named and named.partition(":")[0] != name:
        raise UserError(f"--backbone {named}: the run is of backbone {name}, and its weights fit no other.")
    try:
        chosen = choose_backbone(named or name)
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
    return chosen


def restored(kind: Literal["methods", "guidance"], asked: Component) -> Any:
    """The method or guidance of a run. Raises :class:`UserError` where it is unknown or of another version."""
    plugin, owner = plugins.load(kind, asked.name), f"{plugins.SINGULAR[kind]} {asked.name}"
    if plugin.version != asked.version:
        raise UserError(
            f"{owner} is of version {plugin.version} here, the run was made with {asked.version}. Install the version "
            "of grasp-bench or of the plugin that made it, or run it again."
        )
    return plugin(validated(plugin.Config, asked.settings, owner))


def validated(model: type[S], settings: dict[str, Any], owner: str) -> S:
    """Recorded settings. Raises :class:`UserError` for those that this version does not take."""
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "settings"
        raise UserError(
            f"settings of {owner}: {where}: {first['msg']}. They are of another version, which has to be installed, or "
            "were edited."
        ) from error


def trained_weights(plan: Plan, record: RunRecord, work_dir: Path) -> Path:
    """The file of a run's trained weights in the work folder.

    Raises :class:`UserError` with the command that makes them again where they are gone, or not what was scored.
    """
    path = Store(work_dir, print).folder("train", stage_inputs(plan)["train"]) / WEIGHTS
    if not path.is_file():
        raise UserError(
            f"{path}: the trained weights are not there any more. This makes them again, with a record of their own to "
            f"name instead: {command(plan, work_dir)}"
        )
    if file_digest(path) != record.weights:
        raise UserError(
            f"{path}: not the weights that the record tells of: they are damaged, or were made again elsewhere. Name "
            f"the record that was written with them, or remove {path.parent} and make both: {command(plan, work_dir)}"
        )
    return path


def command(plan: Plan, work_dir: Path) -> str:
    """The command line that carries out a run again, with its results in a folder of their own."""
    return shlex.join([*plan.command(), "--work-dir", str(work_dir), "--results", "results-again"])


def _task(asked: Component, file: Path | None, data_root: Path | None) -> Task[TaskSettings]:
    """The task of a run, with the folder of its data only where its classes come with them."""
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


def _plan(spec: RunSpec, task: Task[TaskSettings], backbone: ChosenBackbone) -> Plan:
    """The plan of ``spec``, as far as it can be had here: its task's version and settings are those of ``task``."""
    component = Component(name=spec.task.name, version=task.version, settings=task.identity())
    return Plan(
        spec.model_copy(update={"task": component}),
        task,
        restored("methods", spec.method),
        restored("guidance", spec.guidance),
        backbone,
        plugins.load("extractors", task.extractor),
    )


def _generator_plan(plan: Plan) -> Plan:
    """The run whose training ``plan`` uses: the same on the task that it names, which keeps settings of training."""
    assert plan.task.generator
    kind, config = plugins.load("tasks", plan.task.generator), plan.task.config
    training = {name: getattr(config, name) for name in TRAINING}
    asked = Component(name=plan.task.generator, version=kind.version, settings=training)
    task = _task(asked, None, None)
    budget = task.budgets[plan.spec.budget.name].model_copy(update=training)
    return _plan(plan.spec.model_copy(update={"task": asked, "budget": budget}), task, plan.backbone)


def _check_same(plan: Plan, record: RunRecord) -> None:
    """Raise :class:`UserError` where the plan is not that of the record's run, or is trained in another way."""
    here, there = plan.spec.task, record.spec.task
    if here.version != there.version:
        raise UserError(f"task {here.name} is of version {here.version} here, the run was made with {there.version}.")
    keys = [*here.settings, *(key for key in there.settings if key not in here.settings)]
    if odd := [key for key in keys if here.settings.get(key) != there.settings.get(key)]:
        raise UserError(
            f"task {here.name}: {odd[0]} is {here.settings.get(odd[0])!r} here, but the run was made with "
            f"{there.settings.get(odd[0])!r}. Restore what it was, or run it again."
        )
    if plan.spec.id != record.run_id:
        raise UserError(f"the run {record.run_id[:12]} was specified by another version of grasp-bench. Run it again.")
    if stage_key("train", stage_inputs(plan)["train"]) != record.stages.get("train"):
        raise UserError(
            "the run was trained by another version of grasp-bench: its stage train is not the one of this version. "
            "Run it again."
        )
