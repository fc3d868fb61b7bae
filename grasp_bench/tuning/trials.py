"""The file of a search: what was searched and how, every trial, and the best of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, JsonValue, ValidationError, model_validator

from grasp_bench.contracts.record import Environment, Part, Sampler
from grasp_bench.contracts.settings import Tuned
from grasp_bench.contracts.spec import RunSpec
from grasp_bench.errors import UserError
from grasp_bench.run.plan import Plan

Searched = Literal["method", "guidance"]
"""The part of a run whose settings a search chooses."""


class Search(Part):
    """What was searched, and how; trials of searches that differ in any field are never mixed."""

    spec: RunSpec
    """Specification of trial 0, in which the searched settings have their defaults."""
    stages: dict[str, str]
    """sha256 of what decides trial 0's images and the extractor, versions included."""
    sampler: Sampler = "halton"
    sampler_seed: int
    ranges: dict[str, Tuned]
    objective: str
    extractor: str
    """Feature extractor of the objective."""
    images: int
    """Number of generated images that are compared with as many validation images."""


class Trial(Part):
    """The scores of the method, trained with some settings, or of images sampled with some settings of the guidance."""

    number: int = Field(ge=0)
    settings: dict[str, int | float]
    """Values of the searched settings; all others have their defaults."""
    run_id: str
    """Identity of the run whose images were scored."""
    status: Literal["finished", "non-finite", "failed"]
    """How the trial ended; a failed one tells nothing about its settings, and is rerun when the search continues."""
    score: float | None = None
    """Value of the objective; lower is better."""
    reason: str | None = None
    """Why the trial has no score."""
    seconds: float
    """Seconds that the trial took, without stages that were finished before."""
    environment: Environment


class TuningRecord(Part):
    """A search as it is kept in ``results/<task>/tuning``."""

    schema_version: Literal[1] = 1
    search: Search
    trials: list[Trial] = Field(default_factory=list)
    """Trials, sorted by their numbers."""
    best: int | None = None
    """Number of the trial with the smallest score; the first of those that are equal."""

    @property
    def made(self) -> dict[int, Trial]:
        """Number → trial, without the trials that failed."""
        return {trial.number: trial for trial in self.trials if trial.status != "failed"}

    def with_trial(self, trial: Trial) -> TuningRecord:
        """Return the search with one trial added or replaced."""
        others = [each for each in self.trials if each.number != trial.number]
        trials = sorted([*others, trial], key=lambda each: each.number)
        return self.model_copy(update={"trials": trials, "best": _best(trials)})

    @model_validator(mode="after")
    def _best_is_best(self) -> Self:
        if self.best != _best(self.trials):
            raise ValueError(f"best is {self.best}, but the trial with the smallest score is {_best(self.trials)}")
        return self


def _best(trials: list[Trial]) -> int | None:
    scored = [(trial.score, trial.number) for trial in trials if trial.score is not None]
    return min(scored)[1] if scored else None


def tuning_path(results: Path, plan: Plan, of: Searched = "method") -> Path:
    """Return the file of the search of the plan's method or guidance on its task, for the plan's budget."""
    folder = results / plan.task_label / "tuning"
    return folder / f"{plan.model_label}.json" if of == "method" else folder / "guidance" / f"{name_of(plan, of)}.json"


def name_of(plan: Plan, of: Searched) -> str:
    """Return the name of what is searched, for messages and tables."""
    return plan.model_label if of == "method" else plan.spec.guidance.name


def read_tuning(path: Path) -> TuningRecord:
    """Read a search. Raises :class:`UserError` that names the file and its first fault."""
    try:
        return TuningRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(
            f"{path}: not a search that this version reads: {where}: {first['msg']}. Restore it, or move it away and "
            "tune again."
        ) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error


def set_aside(path: Path) -> Path:
    """Rename the file of a search that is over to ``<name>.earlier-<k>.json``, and return the new path."""
    number = 1
    while (aside := path.with_name(f"{path.stem}.earlier-{number}.json")).exists():
        number += 1
    path.replace(aside)
    return aside


def plain(settings: Mapping[str, JsonValue]) -> str:
    """Return the settings in words, such as "learning_rate=0.01, scale=2"."""
    return ", ".join(f"{name}={value}" for name, value in settings.items())
