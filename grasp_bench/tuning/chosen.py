"""A run with the settings that a search chose; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import JsonValue, ValidationError

from grasp_bench.contracts.record import Tuning
from grasp_bench.contracts.row import SCALE
from grasp_bench.contracts.settings import settings_of
from grasp_bench.contracts.spec import STANDARD
from grasp_bench.errors import UserError, first_fault
from grasp_bench.run.plan import Plan
from grasp_bench.run.recipes import Searched
from grasp_bench.tuning.trials import TuningRecord, read_tuning, tuning_path


def with_tuned(plan: Plan, results: Path) -> Plan:
    """Return the run with what its method's search on its task chose; settings that were given by name stay.

    That is the settings of the method and, under the guidance that the search sampled with, its scale. The search is
    that of the run's own budget and number of evaluations or, where there is none, of the standard ones; of a task with
    a generator it is one on the task that is trained on, where the task has none of its own.
    Raises :class:`UserError` where there is no search, no trial of it has a score, or it was of another version of
    something or of other settings that decide what the searched ones mean.
    """
    path, of = _find(plan, results)
    found = read_tuning(path)
    _check_same(path, found, of)
    if found.best is None:
        raise UserError(f"{path}: no trial has a score. Tune with more --trials, or leave --tuned out.")
    set_by_name = plan.method.config.model_fields_set
    best = found.made[found.best].settings
    settings: dict[str, JsonValue] = {name: value for name, value in best.items() if name not in set_by_name}
    scale = found.scale if found.search.spec.guidance.name == plan.spec.guidance.name else None
    tuning = Tuning(
        trials=len(found.made), best=found.best, settings=settings, sampler=found.search.sampler, scale=scale
    )
    scaled = plan
    if scale is not None and SCALE not in plan.guidance.config.model_fields_set:
        scaled = with_settings(plan, {SCALE: scale}, "guidance")
    try:
        return replace(with_settings(scaled, settings), tuned=tuning)
    except ValidationError as error:
        raise UserError(
            f"{path}: its settings do not go with those of --set: {first_fault(error)}. Set others."
        ) from error


def tuned_guidance(plan: Plan, results: Path) -> dict[str, JsonValue]:
    """Return the settings of the run's guidance that its search with the run's method chose.

    Raises :class:`UserError` where there is no such search, or it is of another version or has no score.
    """
    path = tuning_path(results, plan, "guidance")
    if not path.exists():
        raise UserError(
            f"{path}: not there. Choose its settings with `grasp-bench tune --method {plan.spec.method.name} "
            f"--guidance {plan.spec.guidance.name} --task {plan.spec.task.name} --results {results}`."
        )
    found = read_tuning(path)
    _check_same(path, found, plan)
    if found.best is None:
        raise UserError(f"{path}: no trial has a score. Tune with more --trials.")
    return dict(found.made[found.best].settings)


def with_settings(plan: Plan, settings: Mapping[str, JsonValue], of: Searched = "method") -> Plan:
    """Return the run with other settings of its method or guidance. Raises ValidationError for invalid ones."""
    part = getattr(plan, of)
    config = settings_of(type(part.config), part.config.model_dump() | dict(settings))
    component = getattr(plan.spec, of).model_copy(update={"settings": config.model_dump(mode="json")})
    changed: dict[str, Any] = {of: type(part)(config), "spec": plan.spec.model_copy(update={of: component})}
    if of == "method" and plan.generator:
        changed["generator"] = with_settings(plan.generator, settings)
    return replace(plan, **changed)


def _find(plan: Plan, results: Path) -> tuple[Path, Plan]:
    """Return the file of the search, and the run that it was to be of: this one, or the one that its task trains."""
    runs = (plan, plan.generator) if plan.generator else (plan,)
    places = {path: of for of in runs for path in _places(of, results)}
    for path, of in places.items():
        if path.exists():
            return path, of
    settings = plan.changed["task"]
    changed = "".join(f" --task-set {name}={value}" for name, value in settings.items())
    raise UserError(
        f"--tuned: {' and '.join(map(str, places))}: not there. Choose settings with `grasp-bench tune --method "
        f"{plan.spec.method.name} --task {plan.spec.task.name}{changed} --results {results}`, or leave --tuned out."
    )


def _places(plan: Plan, results: Path) -> Iterator[Path]:
    standard = plan.spec.budget.model_copy(update={"name": STANDARD})
    for asked in (plan, replace(plan, spec=plan.spec.model_copy(update={"budget": standard}))):
        yield tuning_path(results, asked)
        yield tuning_path(results, _of_any_evaluations(asked))


def _of_any_evaluations(plan: Plan) -> Plan:
    """Return the run without a limit of network evaluations, which only decides how images are sampled."""
    task = copy(plan.task)
    task.config = task.config.model_copy(update={"evaluations": None})
    return replace(plan, task=task)


def _check_same(path: Path, found: TuningRecord, plan: Plan) -> None:
    searched, asked = found.search.spec, plan.spec
    for kind, there, here in (
        ("method", searched.method, asked.method),
        ("task", searched.task, asked.task),
        ("backbone", searched.backbone, asked.backbone),
        *([("guidance", searched.guidance, asked.guidance)] if searched.guidance.name == asked.guidance.name else []),
    ):
        if (there.name, there.version) != (here.name, here.version):
            raise UserError(
                f"{path}: is a search of {kind} {there.name}@{there.version}, and this is {here.name}@{here.version}. "
                "Tune again: what was found is kept beside it."
            )
    for name in type(plan.method.config).searched_with:
        before, now = (each.method.settings.get(name) for each in (searched, asked))
        if before != now:
            raise UserError(
                f"{path}: is a search with {name}={before}, and this is with {name}={now}, for which its values mean "
                "nothing. Leave --tuned out, and give settings by --set."
            )
    ours, theirs = (dict(each.task.settings, evaluations=None) for each in (asked, searched))
    if ours != theirs:
        raise UserError(f"{path}: is a search of task {asked.task.name} with other settings or data. Tune again.")
