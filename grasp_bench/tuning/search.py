"""The search for settings of a method or a guidance: trial after trial, each kept as soon as it is made."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from grasp_bench import seeds
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.recipe import Rate
from grasp_bench.contracts.record import Sampler
from grasp_bench.contracts.settings import Settings, Tuned
from grasp_bench.errors import NonFiniteError, Skip, UserError
from grasp_bench.io import write_json
from grasp_bench.processes import pick_device
from grasp_bench.run.context import Options
from grasp_bench.run.environment import describe
from grasp_bench.run.pipeline import Pipeline, stage_keys
from grasp_bench.run.plan import Plan
from grasp_bench.run.recipes import searched_rates
from grasp_bench.tuning.chosen import with_settings
from grasp_bench.tuning.objective import OBJECTIVE, Target, compared_counts, make_target
from grasp_bench.tuning.ranges import candidate, tuned_ranges
from grasp_bench.tuning.tpe import FIRST, load_optuna, proposed
from grasp_bench.tuning.trials import (
    Search,
    Searched,
    Trial,
    TuningRecord,
    name_of,
    plain,
    read_tuning,
    set_aside,
    tuning_path,
)

SEED = 1000
"""Seed of the training and the images of every trial; no run of a leaderboard has it."""
DECIDING = ("extractor", "generate")
"""Stages whose inputs, and those of the stages before them, decide a score."""


def tune(
    plan: Plan,
    trials: int,
    options: Options,
    progress: Progress,
    sampler: Sampler = "halton",
    of: Searched = "method",
) -> TuningRecord | Skip:
    """Make the trials that are missing of ``trials``, or say why the method or the guidance does not apply.

    ``plan`` is that of the defaults of what is searched; its seed is replaced. Trials of a guidance share one training.
    A trial whose numbers stop being finite has no score, and one that fails is made again the next time; neither ends
    the search. Raises :class:`UserError` for what has nothing to do with a trial's settings.
    """
    if sampler == "tpe":
        load_optuna()  # which is missed before anything is made
    device = pick_device(options.device)
    common = Pipeline(_seeded(plan), options, device, progress)
    skip = plan.method.supports(common.backbone, plan.task) or plan.guidance.supports(common.backbone, plan.method)
    if skip:
        return skip
    del common.backbone  # every trial has one of its own
    budget = common.plan.spec.budget
    counts = compared_counts(common.data.validation, len(common.classes), budget.images_per_class)
    budget = budget.model_copy(update={"images_per_class": int(counts.max())})
    first = replace(common.plan, spec=common.plan.spec.model_copy(update={"budget": budget}))
    path, name = tuning_path(options.results, plan, of), name_of(plan, of)
    model = type(getattr(plan, of).config)
    recipe = searched_rates(plan.backbone.recipe, plan.method, plan.guidance, of)
    search = _described(first, tuned_ranges(model, recipe), int(counts.sum()), sampler)
    found = _opened(path, model, search, progress, recipe)
    missing = [number for number in range(trials) if number not in found.made]
    target = make_target(common, counts) if missing else None
    for number in missing:
        assert target
        settings = _candidate(model, number, found, recipe)
        progress.say(f"{name}, trial {number} of {trials}: {plain(settings)}")
        trial = _carry_out(number, settings, with_settings(first, settings, of), target, options, device, progress)
        outcome = f"{trial.status}: {trial.reason}" if trial.score is None else f"validation FD {trial.score:.4g}"
        progress.say(f"{name}, trial {number}: {outcome}")
        found = found.with_trial(trial)
        write_json(path, found.model_dump(mode="json"))
    return found


def _seeded(plan: Plan) -> Plan:
    """Return the run with the seed of searches."""
    generator = _seeded(plan.generator) if plan.generator else None
    return replace(plan, spec=plan.spec.model_copy(update={"seed": SEED}), generator=generator)


def _candidate(model: type[Settings], number: int, found: TuningRecord, recipe: Mapping[str, Rate]) -> dict[str, float]:
    """Return the searched settings of trial ``number``, given the trials that are ``found`` so far."""
    task = found.search.spec.task.name
    if found.search.sampler == "tpe":
        return proposed(model, number, task, found.trials, recipe)
    return candidate(model, number, task, recipe)


def _described(first: Plan, ranges: dict[str, Tuned], images: int, sampler: Sampler) -> Search:
    keys, task = stage_keys(first), first.spec.task.name
    return Search(
        spec=first.spec,
        stages={stage: keys[stage] for stage in DECIDING},
        sampler=sampler,
        sampler_seed=seeds.stream("tune", task),
        ranges=ranges,
        objective=OBJECTIVE,
        extractor=f"{first.extractors[0].name}@{first.extractors[0].kind.version}",
        images=images,
    )


def _opened(
    path: Path, model: type[Settings], search: Search, progress: Progress, recipe: Mapping[str, Rate]
) -> TuningRecord:
    """Return the search as far as it has come; another search in the same file is set aside."""
    if not path.exists():
        return TuningRecord(search=search)
    found = read_tuning(path)
    if found.search == search and all(_is_asked(trial, model, found, recipe) for trial in found.trials):
        return found
    aside = set_aside(path).name
    progress.say(f"{path} is of another search, such as of another sampler, other ranges or versions: kept as {aside}")
    return TuningRecord(search=search)


def _is_asked(trial: Trial, model: type[Settings], found: TuningRecord, recipe: Mapping[str, Rate]) -> bool:
    """Return whether a trial has the settings that it would have now; those of optuna may differ by its version."""
    depends = found.search.sampler == "tpe" and trial.number >= FIRST
    return depends or trial.settings == _candidate(model, trial.number, found, recipe)


def _carry_out(
    number: int,
    settings: dict[str, float],
    plan: Plan,
    target: Target,
    options: Options,
    device: torch.device,
    progress: Progress,
) -> Trial:
    """Carry out one trial, and return it whether it finished or not."""
    begun = time.monotonic()
    score = reason = None
    try:
        score = target.distance(Pipeline(plan, options, device, progress))
        status = "finished"
    except UserError:
        raise
    except NonFiniteError as error:
        status, reason = "non-finite", str(error)
    except Exception as error:
        status, reason = "failed", f"{type(error).__name__}: {error}"
    if reason and plan.private:
        reason = f"{status}; what it said may name patients' data, and is not kept"
    return Trial.model_validate(
        {
            "number": number,
            "settings": settings,
            "run_id": plan.spec.id,
            "status": status,
            "score": score,
            "reason": reason,
            "seconds": round(time.monotonic() - begun, 1),
            "environment": describe(device),
        }
    )
