"""The fairness rules that can be checked on records of runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from grasp_bench.contracts.record import ENOUGH_SEEDS, RunRecord
from grasp_bench.contracts.spec import STANDARD
from grasp_bench.results.sharing.archive import escaped
from grasp_bench.results.sharing.differences import why_not_comparable

Outcome = Literal["passed", "provisional", "failed", "unverifiable"]


@dataclass(frozen=True)
class Check:
    """The outcome of one check."""

    outcome: Outcome
    """What the check found; "provisional": honest, not for a leaderboard; "unverifiable": it cannot be checked here."""
    of: str
    """The run, task or file of the pack that was checked."""
    what: str
    detail: str = ""


def rule_checks(records: Sequence[RunRecord], resamples: Mapping[str, bool | None]) -> list[Check]:
    """Check the rules for all runs of each task.

    ``resamples`` is run id → whether its method draws classes at other frequencies than those of the data, and so sees
    another order; None where that is not known here.
    """
    checks: list[Check] = []
    for task in sorted({record.task_label for record in records}):
        runs = [record for record in records if record.task_label == task]
        title = escaped(task)
        checks += [
            _conditions(runs, title),
            _budget(runs, title),
            *_seeds(runs, title),
            *_streams(runs, title, resamples),
            _tuning(runs, title),
        ]
    return checks


def _conditions(runs: Sequence[RunRecord], task: str) -> Check:
    what = "one task version, backbone, budget and protocol for all runs"
    for run in runs[1:]:
        if reasons := why_not_comparable(runs[0], run):
            return Check("failed", task, what, f"{title_of(run)}: {escaped('; '.join(reasons))}")
    return Check("passed", task, what, f"rules {escaped(runs[0].protocol.get('rules', 'none'))}")


def _budget(runs: Sequence[RunRecord], task: str) -> Check:
    names = sorted({run.spec.budget.name for run in runs})
    outcome: Outcome = "passed" if names == [STANDARD] else "provisional"
    return Check(outcome, task, "the standard budget", f"it is {escaped(', '.join(names))}")


def _seeds(runs: Sequence[RunRecord], task: str) -> Iterable[Check]:
    for label, row in sorted({(run.label, str(run.row)) for run in runs}):
        seeds = sorted({run.spec.seed for run in runs if run.label == label})
        outcome: Outcome = "passed" if len(seeds) >= ENOUGH_SEEDS else "provisional"
        detail = f"{escaped(row)}: {', '.join(map(str, seeds))}"
        yield Check(outcome, task, f"at least {ENOUGH_SEEDS} seeds", detail)


def _streams(runs: Sequence[RunRecord], task: str, resamples: Mapping[str, bool | None]) -> Iterable[Check]:
    """Check methods that draw images at the data's frequencies; others see an order of their own by design.

    What entries of the open division saw is not known.
    """
    runs = [run for run in runs if run.division == "closed"]
    what = "equal data order, noise and timesteps at each seed"
    for seed in sorted({run.spec.seed for run in runs}):
        at = [run for run in runs if run.spec.seed == seed]
        natural = [run for run in at if not resamples[run.run_id]]
        own = sorted({escaped(str(run.row)) for run in at if resamples[run.run_id]})
        found = {run.streams for run in natural}
        told = f"; {', '.join(own)} resamples classes" if own else ""
        if None in found:
            yield Check("failed", task, what, f"seed {seed}: a record has no hash of its streams")
        elif len(found) > 1:
            known = all(resamples[run.run_id] is not None for run in natural)
            labels = ", ".join(f"{escaped(str(run.row))} {escaped(str(run.streams))[:12]}" for run in natural)
            yield Check("failed" if known else "unverifiable", task, what, f"seed {seed}: {labels}{told}")
        else:
            yield Check("passed", task, what, f"seed {seed}, {len(natural)} of {len(at)} runs{told}")


def _tuning(runs: Sequence[RunRecord], task: str) -> Check:
    """Check the searches of runs of the closed division; how often others tried is not known."""
    what = "the same number of trials for every tuned method"
    runs = [run for run in runs if run.division == "closed"]
    if not runs:
        return Check("unverifiable", task, what, "every run is of the open division, which declares no trials")
    trials = sorted({run.tuned.trials for run in runs if run.tuned})
    outcome: Outcome = "passed" if len(trials) < 2 else "provisional"
    found = f"trials: {', '.join(map(str, trials))}" if trials else "no search was used"
    return Check(outcome, task, what, found)


def title_of(record: RunRecord) -> str:
    """Return the name of a run, harmless to print."""
    return escaped(record.title)
