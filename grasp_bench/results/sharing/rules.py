"""The fairness rules that records of runs can be held against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from grasp_bench.contracts.record import RunRecord
from grasp_bench.contracts.spec import STANDARD
from grasp_bench.results.sharing.archive import escaped
from grasp_bench.results.sharing.differences import why_not_comparable

ENOUGH_SEEDS = 3

Outcome = Literal["passed", "provisional", "failed", "unverifiable"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    outcome: Outcome
    """Provisional: as it should not be in a leaderboard, but honest; unverifiable: not here, and why."""
    of: str
    """A run, a task or a file of the pack."""
    what: str
    detail: str = ""


def rule_checks(records: Sequence[RunRecord], resamples: Mapping[str, bool | None]) -> list[Check]:
    """The rules for all runs of each task.

    ``resamples`` is, by run id, whether a method draws classes in other shares than the data has them, and so sees
    another order; None where that is not known here.
    """
    checks: list[Check] = []
    for task in sorted({record.task_label for record in records}):
        runs = [record for record in records if record.task_label == task]
        title = escaped(task)
        checks += [
            Check(*_conditions(runs, title)),
            Check(*_budget(runs, title)),
            *_seeds(runs, title),
            *_streams(runs, title, resamples),
            Check(*_tuning(runs, title)),
        ]
    return checks


def _conditions(runs: Sequence[RunRecord], task: str) -> tuple[Outcome, str, str, str]:
    what = "one task version, backbone, budget and protocol for all runs"
    for run in runs[1:]:
        if reasons := why_not_comparable(runs[0], run):
            return "failed", task, what, f"{title_of(run)}: {escaped('; '.join(reasons))}"
    return "passed", task, what, f"rules {escaped(runs[0].protocol.get('rules', 'none'))}"


def _budget(runs: Sequence[RunRecord], task: str) -> tuple[Outcome, str, str, str]:
    names = sorted({run.spec.budget.name for run in runs})
    outcome: Outcome = "passed" if names == [STANDARD] else "provisional"
    return outcome, task, "the standard budget", f"it is {escaped(', '.join(names))}"


def _seeds(runs: Sequence[RunRecord], task: str) -> Iterable[Check]:
    for label in sorted({run.label for run in runs}):
        seeds = sorted({run.spec.seed for run in runs if run.label == label})
        outcome: Outcome = "passed" if len(seeds) >= ENOUGH_SEEDS else "provisional"
        detail = f"{escaped(label)}: {', '.join(map(str, seeds))}"
        yield Check(outcome, task, f"at least {ENOUGH_SEEDS} seeds", detail)


def _streams(runs: Sequence[RunRecord], task: str, resamples: Mapping[str, bool | None]) -> Iterable[Check]:
    """Of the methods that draw images as the data has them; others see an order of their own by design."""
    what = "equal data order, noise and timesteps at each seed"
    for seed in sorted({run.spec.seed for run in runs}):
        at = [run for run in runs if run.spec.seed == seed]
        natural = [run for run in at if not resamples[run.run_id]]
        own = sorted({escaped(run.label) for run in at if resamples[run.run_id]})
        found = {run.streams for run in natural}
        told = f"; {', '.join(own)} resamples classes" if own else ""
        if None in found:
            yield Check("failed", task, what, f"seed {seed}: a record has no hash of its streams")
        elif len(found) > 1:
            known = all(resamples[run.run_id] is not None for run in natural)
            labels = ", ".join(f"{escaped(run.label)} {escaped(str(run.streams))[:12]}" for run in natural)
            yield Check("failed" if known else "unverifiable", task, what, f"seed {seed}: {labels}{told}")
        else:
            yield Check("passed", task, what, f"seed {seed}, {len(natural)} of {len(at)} runs{told}")


def _tuning(runs: Sequence[RunRecord], task: str) -> tuple[Outcome, str, str, str]:
    trials = sorted({run.tuned.trials for run in runs if run.tuned})
    outcome: Outcome = "passed" if len(trials) < 2 else "provisional"
    found = f"trials: {', '.join(map(str, trials))}" if trials else "no search was used"
    return outcome, task, "the same number of trials for every tuned method", found


def title_of(record: RunRecord) -> str:
    """What a run is called, harmless to print."""
    return escaped(f"{record.label} on {record.task_label}, seed {record.spec.seed}")
