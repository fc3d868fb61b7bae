"""Which methods have been searched for, counted from the committed searches for docs.benchmarks."""

from __future__ import annotations

from collections.abc import Iterable

from grasp_bench import plugins
from grasp_bench.errors import UserError
from grasp_bench.run.plan import Plan, plan
from grasp_bench.tuning.chosen import with_tuned
from grasp_bench.tuning.trials import tuning_path

from .pages import ROOT

TASK = "digits-lt"
RESULTS = ROOT / "results"
ARCHIVE = RESULTS / "archive"
"""Where searches and runs of rules 1.0 are."""


def searches() -> str:
    """Which methods have settings from a search of what is installed, as `--tuned` sees it, and which have none."""
    plans = {
        name: plan(method=name, task=TASK)
        for name, each in sorted(plugins.entries("methods").items())
        if each.dist and each.dist.name == "grasp-bench"
    }
    done = [name for name, each in plans.items() if _is_accepted(each)]
    left = [name for name in plans if name not in done]
    earlier = [name for name in left if tuning_path(ARCHIVE, plans[name]).exists()]
    never = [name for name in left if name not in earlier]
    lines = [
        f"`--tuned` has settings from an equal search on `{TASK}` for {len(done)} of {len(plans)} methods: "
        f"{_named(done)}."
    ]
    if earlier:
        lines.append(f"{len(earlier)} have a search under rules 1.0, which `--tuned` refuses: {_named(earlier)}.")
    if never:
        lines.append(f"There has been no search for {len(never)}: {_named(never)}.")
    return " ".join([*lines, *(["`make protocol` carries out what is missing."] if left else [])]) + "\n"


def _is_accepted(chosen: Plan) -> bool:
    try:
        with_tuned(chosen, RESULTS)
    except UserError:
        return False
    return True


def _named(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
