"""What the claims cost on the paper's tasks, by `estimate`: tables of docs/claims.md, written by `make estimates`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from grasp_bench.estimate.devices import DEVICES
from grasp_bench.estimate.estimate import UTILISATION, Estimate, estimate, total
from grasp_bench.estimate.subject import choose
from grasp_bench.estimate.sweep import estimate_sweep
from grasp_bench.estimate.table import GPU
from grasp_bench.estimate.text import gib

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
        anchor = re.sub(r"[^\w -]", "", claim.lower()).replace(" ", "-")
        title = f"[{claim}](#{anchor})" if claim in CLAIMS else claim
        yield f"| {title} | {named} | {' | '.join(cells)} |"


def run_cells(method: str, task: str) -> list[str]:
    """Hours and peak of one run, as the table has them."""
    return _run(estimate(choose(method, task), DEVICES[GPU], UTILISATION))


def _run(found: Estimate) -> list[str]:
    return [f"{found.hours:.1f}", gib(found.way.peak) if found.fits else "does not fit"]


def _hours(groups: Iterable[tuple[Estimate, list[str]]]) -> str:
    return f"{total((each, seed) for each, seeds in groups for seed in seeds).hours:,.0f}"


if __name__ == "__main__":
    table = "\n".join(lines(estimate_sweep(SWEEP, DEVICES[GPU], UTILISATION, None).groups))
    PAGE.write_text(BETWEEN.sub(lambda _: f"\n{table}\n\n", PAGE.read_text(encoding="utf-8")), encoding="utf-8")
