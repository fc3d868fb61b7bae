"""Which methods have been searched for, and what repeats of trials moved, counted from the committed searches."""

from __future__ import annotations

from collections.abc import Iterable

from grasp_bench import plugins
from grasp_bench.errors import UserError
from grasp_bench.run.plan import Plan, plan
from grasp_bench.text import markdown_escaped
from grasp_bench.tuning.chosen import with_tuned
from grasp_bench.tuning.trials import TuningRecord, read_tuning, tuning_path

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


def chosen() -> str:
    """What every search of a method chose, as a table."""
    head = "| method | settings | guidance scale | validation FD, mean of three seeds |"
    lines = [head, "| --- | --- | ---: | ---: |"]
    for each in _searched():
        settings = ", ".join(f"{name}={value:g}" for name, value in each.made[each.best or 0].settings.items())
        name = each.search.spec.method.name
        lines.append(f"| {name} | {markdown_escaped(settings)} | {each.scale:g} | {each.score:.1f} |")
    return "\n".join(lines) + "\n"


def repeats() -> str:
    """How often the two further seeds of a search changed what the first alone would have chosen."""
    searched = _searched()
    first = [each.finalists[0] for each in searched]
    settings = sum(one.number != each.best for one, each in zip(first, searched, strict=True))
    scale = sum(one.scale != each.scale for one, each in zip(first, searched, strict=True))
    return (
        f"In {settings} of {len(searched)} searches of methods the mean over three seeds chose the setting that was "
        f"second at the first of them, and in {scale} another guidance scale than that seed alone would have.\n"
    )


def _searched() -> list[TuningRecord]:
    return [read_tuning(path) for path in sorted((RESULTS / TASK / "tuning").glob("*.json"))]


def _is_accepted(chosen: Plan) -> bool:
    try:
        with_tuned(chosen, RESULTS)
    except UserError:
        return False
    return True


def _named(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
