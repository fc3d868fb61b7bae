"""The settings of a trial from those before it: optuna's tree-structured Parzen estimator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from grasp_bench import seeds
from grasp_bench.contracts.recipe import Rate
from grasp_bench.contracts.settings import Settings, Tuned
from grasp_bench.errors import UserError
from grasp_bench.tuning.ranges import NONE, candidate, is_whole, rounded, tuned_ranges
from grasp_bench.tuning.trials import Trial

FIRST = 10
"""Number of trials that the quasi-random search chooses before the estimator, which needs some to learn from."""


def load_optuna() -> ModuleType:
    """Return optuna. Raises :class:`UserError` where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise UserError(
            f"--search tpe needs optuna ({error}): pip install 'grasp-bench[optuna]', or leave the option out."
        ) from error
    found: ModuleType = optuna
    return found


def proposed(
    model: type[Settings], number: int, task: str, trials: Sequence[Trial], recipe: Mapping[str, Rate] = NONE
) -> dict[str, float]:
    """Return the searched settings of a trial: after the first ones, the estimator's choice (Bergstra et al. 2011).

    A trial is a function of its number, the ranges, the task and those of ``trials`` that have smaller numbers, so a
    search goes on from what is kept of it, and nothing is kept by optuna. Values have three significant digits. Trials
    without a score are told as worse than any that has one, failed ones not at all.
    """
    if number < FIRST:
        return candidate(model, number, task, recipe)
    optuna, ranges = load_optuna(), tuned_ranges(model, recipe)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {name: _distribution(optuna, searched, is_whole(model, name)) for name, searched in ranges.items()}
    seed = seeds.stream("tune", task, number) % 2**32  # as numpy's RandomState takes it
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(n_startup_trials=0, seed=seed))
    for trial in trials:
        if trial.number < number and trial.status != "failed":
            study.add_trial(_told(optuna, trial, ranges, space))
    found = study.ask(space).params
    return {name: rounded(found[name], searched, is_whole(model, name)) for name, searched in ranges.items()}


def _distribution(optuna: Any, searched: Tuned, whole: bool) -> Any:
    if whole:
        return optuna.distributions.IntDistribution(round(searched.low), round(searched.high), log=searched.log)
    return optuna.distributions.FloatDistribution(searched.low, searched.high, log=searched.log)


def _told(optuna: Any, trial: Trial, ranges: dict[str, Tuned], space: dict[str, Any]) -> Any:
    """Return a trial as optuna has it; a default outside its range tells nothing about the range, and is left out."""
    inside = {name for name, value in trial.settings.items() if ranges[name].low <= value <= ranges[name].high}
    scored = trial.score is not None
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.COMPLETE if scored else optuna.trial.TrialState.PRUNED,
        value=trial.score,
        params={name: value for name, value in trial.settings.items() if name in inside},
        distributions={name: each for name, each in space.items() if name in inside},
    )
