"""The file of a search: what was searched and how, every trial, and the choice among them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, ValidationError, model_validator

from grasp_bench.bounds import Count, Number, kept
from grasp_bench.contracts.record import Environment, Part, Sampler
from grasp_bench.contracts.settings import Tuned
from grasp_bench.contracts.spec import RunSpec
from grasp_bench.errors import UserError, first_fault
from grasp_bench.io import check_file, write_json
from grasp_bench.locks import publishing
from grasp_bench.run.labels import label_path
from grasp_bench.run.plan import Plan
from grasp_bench.run.recipes import Searched

FINALISTS = 2
"""Number of trials that are repeated at further seeds."""


class Search(Part):
    """What was searched, and how; trials of searches that differ in any field are never mixed."""

    spec: RunSpec
    """Specification of trial 0, in which the searched settings have their defaults."""
    stages: dict[str, str]
    """sha256 of what decides trial 0's images and the extractor, versions included."""
    sampler: Sampler = "halton"
    sampler_seed: Count
    ranges: dict[str, Tuned]
    scales: list[Number] = Field(default_factory=list)
    """Guidance scales at which every trial is sampled; empty where the scale is not chosen with the settings."""
    repeat_seeds: list[Count] = Field(default_factory=list)
    """Further seeds at which the best settings are trained again before one is chosen."""
    objective: str
    extractor: str
    """Feature extractor of the objective."""
    images: Count
    """Number of generated images that are compared with as many validation images."""


class Scaled(Part):
    """The score of the images that were sampled at one guidance scale."""

    scale: Number | None = None
    """The guidance scale; None where it is not chosen with the settings."""
    score: Number | None = None
    """Value of the objective; lower is better."""
    reason: str | None = None
    """Why the images have no score."""


class Trial(Part):
    """The scores of the method, trained with some settings, or of images sampled with some settings of the guidance."""

    number: Count
    seed: Count | None = None
    """Seed of a repeat; None for the trial itself, which has the seed of the search's specification."""
    settings: Annotated[dict[str, int | float], AfterValidator(kept)]
    """Values of the searched settings; all others have their defaults."""
    run_id: str
    """Identity of the run whose images were scored, with the guidance scale that the search's specification has."""
    status: Literal["finished", "non-finite", "failed", "unfinished"]
    """How the trial ended. One that failed tells nothing about its settings, and is rerun when the search continues;
    one that is unfinished was interrupted between two guidance scales."""
    scores: list[Scaled] = Field(default_factory=list)
    """Scores by guidance scale; empty in searches that were made before scales were chosen with the settings."""
    score: Number | None = None
    """The best score; lower is better."""
    scale: Number | None = None
    """The guidance scale of the best score."""
    reason: str | None = None
    """Why the trial has no score."""
    seconds: Number
    """Seconds that the trial took, without stages that were finished before."""
    environment: Environment

    @property
    def by_scale(self) -> dict[float | None, float]:
        """Guidance scale → score, of those that have one."""
        known = self.scores or [Scaled(score=self.score)]
        return {each.scale: each.score for each in known if each.score is not None}


class TuningRecord(Part):
    """A search as it is kept in ``results/<task>/tuning``."""

    schema_version: Literal[1, 2] = 2
    search: Search
    trials: list[Trial] = Field(default_factory=list)
    """Trials, sorted by their numbers."""
    repeats: list[Trial] = Field(default_factory=list)
    """The best trials at further seeds, sorted by their numbers and seeds."""
    best: int | None = None
    """Number of the trial whose settings are chosen; the first of those that are equal."""
    scale: Number | None = None
    """The guidance scale that is chosen with the settings; None where none was searched."""
    score: Number | None = None
    """Mean over all seeds of the scores of what is chosen, or its only score while repeats are missing; None in files
    of schema 1, where the trial has it."""

    @property
    def made(self) -> dict[int, Trial]:
        """Number → trial, without the trials that failed or are unfinished."""
        return {trial.number: trial for trial in self.trials if is_over(trial)}

    @property
    def finalists(self) -> list[Trial]:
        """The trials with the smallest scores, best first, which are repeated at further seeds."""
        scored = [(trial.score, trial.number) for trial in self.made.values() if trial.score is not None]
        return [self.made[number] for _, number in sorted(scored)[:FINALISTS]]

    def found(self, number: int, seed: int | None = None) -> Trial | None:
        """Return a trial, or its repeat at another seed, as far as it has come."""
        kept = self.trials if seed is None else self.repeats
        return next((each for each in kept if (each.number, each.seed) == (number, seed)), None)

    def with_trial(self, trial: Trial) -> TuningRecord:
        """Return the search with one trial or repeat added or replaced."""
        name = "trials" if trial.seed is None else "repeats"
        key = (trial.number, trial.seed)
        others = [each for each in getattr(self, name) if (each.number, each.seed) != key]
        kept = sorted([*others, trial], key=lambda each: (each.number, each.seed or 0))
        found = self.model_copy(update={name: kept})
        best, scale, score = found.choice()
        return found.model_copy(update={"best": best, "scale": scale, "score": score})

    def choice(self) -> tuple[int | None, float | None, float | None]:
        """Return the number of the trial that is chosen, its guidance scale and its score.

        It is the pair of a finalist and a scale with the smallest mean over all seeds; while repeats are missing, and
        where no pair has a score at every seed, that of the best trial.
        """
        finalists, seeds = self.finalists, self.search.repeat_seeds
        if not finalists:
            return None, None, None
        runs = {each.number: [each, *(self.found(each.number, seed) for seed in seeds)] for each in finalists}
        means: list[tuple[float, int, float | None]] = []
        for number, repeated in runs.items():
            known = [run.by_scale for run in repeated if run and is_over(run)]
            if len(known) <= len(seeds):
                means.clear()
                break
            for scale in known[0]:
                if all(scale in each for each in known):
                    means.append((sum(each[scale] for each in known) / len(known), number, scale))
        if means:
            score, best, at = min(means, key=lambda each: each[:2])
            return best, at, score
        return finalists[0].number, finalists[0].scale, finalists[0].score

    @model_validator(mode="after")
    def _choice_is_best(self) -> Self:
        best, scale, score = self.choice()
        if (self.best, self.scale) != (best, scale) or (self.schema_version > 1 and self.score != score):
            raise ValueError(
                f"best is trial {self.best} at scale {self.scale}, {self.score}, but the smallest score is that of "
                f"trial {best} at scale {scale}, {score}"
            )
        return self


def is_over(trial: Trial) -> bool:
    """Return whether a trial has come to an end that tells something of its settings."""
    return trial.status in ("finished", "non-finite")


def tuning_path(results: Path, plan: Plan, of: Searched = "method") -> Path:
    """Return the file of the search of the plan's method, or of its guidance with that method, for its budget."""
    if of == "method":
        return results / label_path(plan.task_label, "tuning", f"{plan.model_label}.json")
    below = ("tuning", "guidance", plan.model_label, f"{plan.spec.guidance.name}.json")
    return results / label_path(plan.task_label, *below)


def name_of(plan: Plan, of: Searched) -> str:
    """Return the name of what is searched, for messages and tables."""
    return plan.model_label if of == "method" else f"{plan.spec.guidance.name} on {plan.model_label}"


def read_tuning(path: Path) -> TuningRecord:
    """Read a search. Raises :class:`UserError` that names the file and its first fault."""
    try:
        return TuningRecord.model_validate_json(check_file(path).read_bytes())
    except ValidationError as error:
        raise UserError(
            f"{path}: not a search that this version reads: {first_fault(error)}. Restore it, or move it away and tune "
            "again."
        ) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error


def publish(results: Path, path: Path, found: TuningRecord, trial: Trial) -> TuningRecord:
    """Add a trial to the file of a search under ``results``, and return the search with what others have added.

    Where another process has made the same trial meanwhile, that one stays. Raises :class:`UserError` where the file
    is of another search by now.
    """
    with publishing(results):
        current = read_tuning(path) if path.exists() else found
        if current.search != found.search:
            raise UserError(
                f"{path}: another search has been written there meanwhile, and is kept. Tune with other --results, or "
                "wait until it has ended; from the same --work-dir the trials of this search are soon rerun."
            )
        there = current.found(trial.number, trial.seed)
        if there is None or not is_over(there):
            current = current.with_trial(trial)
        write_json(path, current.model_dump(mode="json"))
    return current


def plain(settings: Mapping[str, JsonValue]) -> str:
    """Return the settings in words, such as "learning_rate=0.01, scale=2"."""
    return ", ".join(f"{name}={value}" for name, value in settings.items())
