"""The search for settings of a method or a guidance: trial after trial, each kept as soon as it is made."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from grasp_bench import seeds
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.recipe import Rate
from grasp_bench.contracts.record import PRIVATE, Sampler
from grasp_bench.contracts.row import SCALE
from grasp_bench.contracts.settings import Settings, Tuned
from grasp_bench.errors import NonFiniteError, Skip, UserError
from grasp_bench.io import move_aside
from grasp_bench.locks import publishing
from grasp_bench.processes import pick_device
from grasp_bench.run.applies import why_not
from grasp_bench.run.environment import describe
from grasp_bench.run.options import Options
from grasp_bench.run.pipeline import Pipeline, stage_keys
from grasp_bench.run.plan import Plan
from grasp_bench.run.recipes import Searched, searched_rates
from grasp_bench.run.seeding import with_seed
from grasp_bench.run.threads import threads_taken
from grasp_bench.tuning.chosen import with_settings
from grasp_bench.tuning.objective import OBJECTIVE, Target, compared_counts, make_target
from grasp_bench.tuning.ranges import candidate, tuned_ranges
from grasp_bench.tuning.tpe import FIRST, load_optuna, proposed
from grasp_bench.tuning.trials import (
    Scaled,
    Search,
    Trial,
    TuningRecord,
    is_over,
    name_of,
    plain,
    publish,
    read_tuning,
    tuning_path,
)

SEED = 1000
"""Seed of the training and the images of every trial; no run of a leaderboard has it."""
REPEAT_SEEDS = (1001, 1002)
"""Seeds at which the best trials are repeated; no run of a leaderboard has them."""
SCALES = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0)
"""Guidance scales at which the images of every trial of a method are sampled."""
DECIDING = ("extractor", "generate")
"""Stages whose inputs, and those of the stages before them, decide a score."""


def tune(
    plan: Plan,
    trials: int,
    options: Options,
    progress: Progress,
    sampler: Sampler = "halton",
    of: Searched = "method",
    scales: Sequence[float] | None = None,
) -> TuningRecord | Skip:
    """Make the trials that are missing of ``trials``, or say why the method or the guidance does not apply.

    ``plan`` is that of the defaults of what is searched; its seed is replaced. A trial of a method trains once and is
    sampled at all ``scales``, by default :data:`SCALES` and the guidance's own; trials of a guidance share a training.
    The best two are then repeated at two more seeds. A trial whose numbers stop being finite has no score, and one that
    fails is rerun the next time; neither ends the search. What is made is kept at once, scale by scale. Raises
    :class:`UserError` for what has nothing to do with a trial's settings.
    """
    if sampler == "tpe":
        load_optuna()  # which is missed before anything is made
    with threads_taken(options.threads, plan.threads):
        return _search(plan, trials, options, progress, sampler, of, scales)


def _search(
    plan: Plan,
    trials: int,
    options: Options,
    progress: Progress,
    sampler: Sampler,
    of: Searched,
    scales: Sequence[float] | None,
) -> TuningRecord | Skip:
    searched = _scales(plan, scales) if of == "method" else []
    device = pick_device(options.device)
    common = Pipeline(with_seed(plan, SEED), options, device, progress)
    if skip := why_not(common.backbone, plan.task, plan.method, plan.guidance):
        return skip
    budget = common.plan.spec.budget
    counts = compared_counts(common.data.validation, len(common.classes), budget.images_per_class)
    budget = budget.model_copy(update={"images_per_class": int(counts.max())})
    first = replace(common.plan, spec=common.plan.spec.model_copy(update={"budget": budget}))
    del common  # every trial has a backbone of its own
    path, name = tuning_path(options.results, plan, of), name_of(plan, of)
    model = type(getattr(plan, of).config)
    recipe = searched_rates(plan.backbone.recipe, plan.method, plan.guidance, of)
    search = _described(first, tuned_ranges(model, recipe), int(counts.sum()), sampler, searched)
    with publishing(options.results):
        found = _opened(path, model, search, progress, recipe)
    targets: dict[int, Target] = {}

    def carry_out(number: int, settings: dict[str, float], seed: int | None, told: str) -> None:
        nonlocal found
        chosen = with_settings(first if seed is None else with_seed(first, seed), settings, of)
        if chosen.spec.seed not in targets:
            targets[chosen.spec.seed] = _target(chosen, options, device, progress)
        progress.say(f"{name}, {told}: {plain(settings)}")
        begun = found.found(number, seed)
        known = begun.scores if begun and begun.status == "unfinished" else []
        spent = begun.seconds if known and begun else 0.0
        made = _trials(chosen, number, seed, settings, known, searched, targets[chosen.spec.seed], options, progress)
        for trial in made:
            trial = trial.model_copy(update={"seconds": round(trial.seconds + spent, 1)})
            found = publish(options.results, path, found, trial)
        outcome = f"{trial.status}: {trial.reason}" if trial.score is None else f"validation FD {_shown(trial)}"
        progress.say(f"{name}, {told}: {outcome}")

    for number in range(trials):
        if number not in found.made:
            carry_out(number, _candidate(model, number, found, recipe), None, f"trial {number} of {trials}")
    for trial, seed in itertools.product(found.finalists, search.repeat_seeds):
        repeat = found.found(trial.number, seed)
        if repeat is None or not is_over(repeat):
            carry_out(trial.number, dict(trial.settings), seed, f"trial {trial.number} at seed {seed}")
    return found


def scales_of(plan: Plan) -> list[float]:
    """Return the guidance scales of a trial of a method: all that methods share, and the guidance's own default.

    There is none where the guidance is not classifier-free guidance alone, whose only setting is its scale.
    """
    config = plan.guidance.config
    if not plan.guidance.classifier_free or set(type(config).model_fields) != {SCALE}:
        return []
    return sorted({*SCALES, float(getattr(config, SCALE))})


def _scales(plan: Plan, asked: Sequence[float] | None) -> list[float]:
    known = scales_of(plan)
    if asked is None:
        return known
    if not known:
        raise UserError(
            f"--scales: guidance {plan.spec.guidance.name}, the default of task {plan.spec.task.name}, has no scale "
            "that is chosen with a method's settings. Leave the option out."
        )
    return sorted({*asked})


def _shown(trial: Trial) -> str:
    scale = "" if trial.scale is None else f" at scale {trial.scale:g}"
    return f"{trial.score:.4g}{scale}"


def _target(plan: Plan, options: Options, device: torch.device, progress: Progress) -> Target:
    """Return the validation images of a run's seed."""
    pipeline = Pipeline(plan, options, device, progress)
    at_most = plan.spec.budget.images_per_class
    return make_target(pipeline, compared_counts(pipeline.data.validation, len(pipeline.classes), at_most))


def _candidate(model: type[Settings], number: int, found: TuningRecord, recipe: Mapping[str, Rate]) -> dict[str, float]:
    """Return the searched settings of trial ``number``, given the trials that are ``found`` so far."""
    task = found.search.spec.task.name
    if found.search.sampler == "tpe":
        return proposed(model, number, task, found.trials, recipe)
    return candidate(model, number, task, recipe)


def _described(first: Plan, ranges: dict[str, Tuned], images: int, sampler: Sampler, scales: list[float]) -> Search:
    keys, task = stage_keys(first), first.spec.task.name
    return Search(
        spec=first.spec,
        stages={stage: keys[stage] for stage in DECIDING},
        sampler=sampler,
        sampler_seed=seeds.stream("tune", task),
        ranges=ranges,
        scales=scales,
        repeat_seeds=list(REPEAT_SEEDS),
        objective=OBJECTIVE,
        extractor=f"{first.extractors[0].name}@{first.extractors[0].kind.version}",
        images=images,
    )


def _opened(
    path: Path, model: type[Settings], search: Search, progress: Progress, recipe: Mapping[str, Rate]
) -> TuningRecord:
    """Return the search as far as it has come; another search in the same file is moved aside.

    Raises :class:`UserError` where it cannot be moved.
    """
    if not path.exists():
        return TuningRecord(search=search)
    found = read_tuning(path)
    if found.search == search and all(_is_asked(trial, model, found, recipe) for trial in found.trials):
        return found
    aside = move_aside(path, ".earlier-", path.suffix).name
    progress.say(f"{path} is of another search, such as of another sampler, other ranges or versions: kept as {aside}")
    return TuningRecord(search=search)


def _is_asked(trial: Trial, model: type[Settings], found: TuningRecord, recipe: Mapping[str, Rate]) -> bool:
    """Return whether a trial has the settings that it would have now; those of optuna may differ by its version."""
    depends = found.search.sampler == "tpe" and trial.number >= FIRST
    return depends or trial.settings == _candidate(model, trial.number, found, recipe)


def _trials(
    plan: Plan,
    number: int,
    seed: int | None,
    settings: dict[str, float],
    known: list[Scaled],
    scales: Sequence[float],
    target: Target,
    options: Options,
    progress: Progress,
) -> Iterator[Trial]:
    """Carry out one trial, and give it as far as it has come after every scale, of which some are ``known``."""
    device, begun, scores = pick_device(options.device), time.monotonic(), {each.scale: each for each in known}

    def so_far(status: str, reason: str | None = None) -> Trial:
        best = min((each for each in scores.values() if each.score is not None), key=_by_score, default=None)
        return Trial.model_validate(
            {
                "number": number,
                "seed": seed,
                "settings": settings,
                "run_id": plan.spec.id,
                "status": status,
                "scores": list(scores.values()),
                "score": best.score if best else None,
                "scale": best.scale if best else None,
                "reason": None if best else f"{status}; {PRIVATE}" if reason and plan.private else reason,
                "seconds": time.monotonic() - begun,
                "environment": describe(device),
            }
        )

    reason = None
    asked: list[float | None] = [*scales] or [None]
    for scale in [each for each in asked if each not in scores]:
        pipeline = Pipeline(_at_scale(plan, scale), options, device, progress)
        try:
            scores[scale] = Scaled(scale=scale, score=target.distance(pipeline))
        except UserError:
            raise
        except NonFiniteError as error:
            reason = str(error)
            trainer = pipeline.trainer
            if not trainer.store.is_finished("train", trainer.inputs["train"]):  # no scale will do better
                break
            scores[scale] = Scaled(scale=scale, reason=PRIVATE if plan.private else reason)
        except Exception as error:
            scores.clear()
            yield so_far("failed", f"{type(error).__name__}: {error}")
            return
        if len(scores) < len(asked):
            yield so_far("unfinished")
    yield so_far("finished" if any(each.score is not None for each in scores.values()) else "non-finite", reason)


def _by_score(scaled: Scaled) -> float:
    assert scaled.score is not None
    return scaled.score


def _at_scale(plan: Plan, scale: float | None) -> Plan:
    """Return the run with a guidance scale and a method that is attached to nothing yet."""
    fresh = with_settings(plan, {})
    return fresh if scale is None else with_settings(fresh, {SCALE: scale}, "guidance")
