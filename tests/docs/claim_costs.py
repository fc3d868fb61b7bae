"""What the claims cost on the paper's tasks, by `estimate`: tables of docs/claims.md, written by `make estimates`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from inspect import signature
from typing import NamedTuple

from grasp_bench.cli.tune import tune
from grasp_bench.estimate.devices import DEVICES
from grasp_bench.estimate.estimate import UTILISATION, Estimate, estimate, total
from grasp_bench.estimate.subject import choose
from grasp_bench.estimate.sweep import estimate_sweep
from grasp_bench.estimate.table import GPU
from grasp_bench.estimate.text import gib
from grasp_bench.tuning.search import REPEAT_SEEDS
from grasp_bench.tuning.trials import FINALISTS

from .pages import ROOT

PAGE = ROOT / "docs" / "claims.md"
SWEEP = ROOT / "results" / "mimic-lt" / "sweeps" / "claims.toml"
BETWEEN = re.compile(r"(?<=<!-- costs of claims -->\n).*?(?=<!-- end -->)", re.DOTALL)
CLAIMS: Mapping[str, tuple[str, ...]] = {
    "Rare classes come out worse": ("vanilla-ft",),
    "The partition stands for aligned gradients": ("shared-adapter", "grasp"),
    "A static partition trains the tail where a learned gate fails": ("moe", "grasp"),
    "Better fidelity, and better coverage of the tail": ("vanilla-ft", "shared-adapter", "moe", "grasp"),
    "A better training set for classifiers": ("vanilla-ft", "shared-adapter", "moe", "grasp"),
    "If conflict is the cause, its cure must help": ("vanilla-ft", "pcgrad", "cagrad"),
    "Routing or place": ("lora", "shared-adapter", "grasp", "cluster-lora", "merged"),
}
"""Claim → the methods of the sweep whose runs decide it."""
OF_CLAIM = {"nih-lt": "A better training set for classifiers"}
"""Task that says something of one claim alone → the claim."""
Found = list[tuple[Estimate, list[str]]]


class Further(NamedTuple):
    """Runs that a claim asks for beside those of the sweep, of all its seeds."""

    claim: str
    method: str
    settings: tuple[str, ...] = ()
    guidance: str | None = None
    tasks: tuple[str, ...] = ("mimic-lt", "nih-lt-gen")

    @property
    def words(self) -> str:
        """The method and its options, as they stand on a command line."""
        given = [f"--set {each}" for each in self.settings] + ([f"--guidance {self.guidance}"] if self.guidance else [])
        return " ".join([self.method, *given])


FURTHER = (
    Further("Neither sampling nor conditioning addresses it", "vanilla-ft", guidance="none"),
    Further("Neither sampling nor conditioning addresses it", "two-stage"),
    Further("It composes with minority sampling", "vanilla-ft", guidance="sg-minority"),
    Further("It composes with minority sampling", "grasp", guidance="sg-minority"),
    Further("Not tied to medical images", "vanilla-ft", tasks=("imagenet-lt",)),
    Further("Not tied to medical images", "shared-adapter", tasks=("imagenet-lt",)),
    Further("Not tied to medical images", "grasp", tasks=("imagenet-lt",)),
    Further("Routing or place", "grasp", ("place=attention",)),
)
SEARCHED = signature(tune).parameters["trials"].default + FINALISTS * len(REPEAT_SEEDS)
"""Trainings of a search by default: its trials, and the best of them at further seeds."""


def lines(found: Found) -> Iterator[str]:
    """The lines of both tables: runs of each method, then GPU-hours of each claim, which share runs."""
    tasks = list(dict.fromkeys(each.subject.spec.task.name for each, _ in found))
    methods = list(dict.fromkeys(each.subject.spec.method.name for each, _ in found))
    own = {(each.subject.spec.task.name, each.subject.spec.method.name): (each, seeds) for each, seeds in found}
    yield f"| method | {' | '.join(f'{task}, hours of a run | peak' for task in tasks)} |"
    yield f"|---|{'---:|' * 2 * len(tasks)}"
    for method in methods:
        cells = [cell for task in tasks for cell in _run(own[task, method][0])]
        yield f"| `{method}` | {' | '.join(cells)} |"
    yield ""
    yield f"| claim | runs of | {' | '.join(f'{task}, GPU-hours' for task in tasks)} | together |"
    yield f"|---|---|{'---:|' * (len(tasks) + 1)}"
    for claim, asked in (*CLAIMS.items(), ("all of them", tuple(methods))):
        about = [task for task in tasks if OF_CLAIM.get(task, claim) == claim or claim not in CLAIMS]
        parts = {task: [own[task, method] for method in asked] for task in about}
        cells = [_hours(parts[task]) if task in parts else "" for task in tasks]
        cells.append(_hours(each for part in parts.values() for each in part))
        named = "every method" if asked == tuple(methods) else ", ".join(f"`{method}`" for method in asked)
        title = _linked(claim) if claim in CLAIMS else claim
        yield f"| {title} | {named} | {' | '.join(cells)} |"
    yield ""
    tasks = list(dict.fromkeys(task for each in FURTHER for task in each.tasks))
    yield f"| claim | further runs of | {' | '.join(f'{task}, hours of a run' for task in tasks)} | five seeds add |"
    yield f"|---|---|{'---:|' * (len(tasks) + 1)}"
    seeds, alone = found[0][1], _hours_of(found)
    for each in FURTHER:
        runs = {task: further_run(each, task) for task in each.tasks}
        cells = [f"{runs[task].hours:.1f}" if task in runs else "" for task in tasks]
        added = _hours_of([*found, *((run, seeds) for run in runs.values())]) - alone
        yield f"| {_linked(each.claim)} | `{each.words}` | {' | '.join(cells)} | {added:,.0f} |"


def _linked(claim: str) -> str:
    anchor = re.sub(r"[^\w -]", "", claim.lower()).replace(" ", "-")
    return f"[{claim}](#{anchor})"


def further_run(of: Further, task: str) -> Estimate:
    """What one of the further runs takes."""
    subject = choose(of.method, task, guidance=of.guidance, method_settings=of.settings)
    return estimate(subject, DEVICES[GPU], UTILISATION)


def searches(found: Found) -> str:
    """What searches take, in a sentence."""
    trained = [
        (stage.hours, each.subject.spec.method.name)
        for each, _ in found
        for stage in each.stages
        if stage.name == "train" and each.subject.spec.task.name == "mimic-lt"
    ]
    (least, quick), (most, slow) = min(trained), max(trained)
    return (
        f"A search on `mimic-lt` is {SEARCHED} trainings without classifiers, each sampled at six scales: of training "
        f"alone {SEARCHED * least:.0f} (`{quick}`) to {SEARCHED * most:.0f} GPU-hours (`{slow}`) for a method, and for "
        f"all {len(trained)} together {SEARCHED * sum(hours for hours, _ in trained):,.0f}."
    )


def run_cells(method: str, task: str) -> list[str]:
    """Hours and peak of one run, as the table has them."""
    return _run(estimate(choose(method, task), DEVICES[GPU], UTILISATION))


def _run(found: Estimate) -> list[str]:
    return [f"{found.hours:.1f}", gib(found.way.peak) if found.fits else "does not fit"]


def _hours(groups: Iterable[tuple[Estimate, list[str]]]) -> str:
    return f"{_hours_of(groups):,.0f}"


def _hours_of(groups: Iterable[tuple[Estimate, list[str]]]) -> float:
    return total((each, seed) for each, seeds in groups for seed in seeds).hours


if __name__ == "__main__":
    groups = estimate_sweep(SWEEP, DEVICES[GPU], UTILISATION, None).groups
    made = "\n".join([*lines(groups), "", searches(groups)])
    PAGE.write_text(BETWEEN.sub(lambda _: f"\n{made}\n\n", PAGE.read_text(encoding="utf-8")), encoding="utf-8")
