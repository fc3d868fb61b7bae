"""Which sweeps are finished, which methods were searched for, and what repeats of trials moved, as committed."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from scipy.stats import spearmanr

from grasp_bench import plugins
from grasp_bench.errors import UserError
from grasp_bench.results.board import Leaderboard
from grasp_bench.results.grids import MINUS
from grasp_bench.results.leaderboard import leaderboards
from grasp_bench.run.plan import Plan, plan
from grasp_bench.sweep.cells import read_sweep
from grasp_bench.sweep.state import recorded
from grasp_bench.text import markdown_escaped
from grasp_bench.tuning.chosen import with_tuned
from grasp_bench.tuning.trials import TuningRecord, read_tuning, tuning_path

from .pages import ROOT

if TYPE_CHECKING:
    import pandas as pd

TASK = "digits-lt"
PRIMARY = 2
"""Metrics of a task that are primary."""
RESULTS = ROOT / "results"
ARCHIVE = RESULTS / "archive"
"""Where searches and runs of rules 1.0 are."""
PROTOCOL = {TASK: "protocol", "mnist-lt": "protocol-mnist"}
"""Task → the target of the Makefile that carries out its sweeps."""


def board_of(rows: pd.DataFrame) -> Leaderboard:
    """The leaderboard of the runs, and of several that with the most rows; nothing in it is tested."""
    return max(leaderboards(rows, None), key=lambda board: len(board.costs))


def sweeps() -> str:
    """Which sweeps of the protocol are finished, how far the others are, and what goes on with them."""
    lines = []
    for task, target in PROTOCOL.items():
        every = {path.stem: _runs(path) for path in sorted(Path("results", task, "sweeps").glob("*.toml"))}
        done = [name for name, (there, asked) in every.items() if there == asked]
        left = {name: each for name, each in every.items() if name not in done}
        said = [f"{_named(done)} {'is' if len(done) == 1 else 'are'} done"] if done else []
        said += [f"`{name}` has {there} of {asked} runs" for name, (there, asked) in left.items()]
        goes_on = f": `make {target}` goes on" if left else ""
        lines.append(f"- Of `results/{task}/sweeps`, {'; '.join(said)}{goes_on} ([tables](results/{task}/TABLES.md)).")
    return "\n".join(lines) + "\n"


def scales_left() -> str:
    """How far the sweep of other scales is, and what goes on with it."""
    path = Path("results", TASK, "sweeps", "scales.toml")
    there, asked = _runs(path)
    if there == asked:
        return f"All {asked} runs of `grasp-bench sweep {path}` are there.\n"
    return f"{there} of {asked} runs are there; `grasp-bench sweep {path}` goes on, as part of `make protocol`.\n"


@cache
def _runs(path: Path) -> tuple[int, int]:
    """How many runs of a sweep are finished, and how many it asks for."""
    cells = read_sweep(path).cells
    return sum(recorded(cell).status == "finished" for cell in cells), len(cells)


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
        f"`--tuned` has settings from an equal search on `{TASK}` for "
        + (f"{len(done)} of {len(plans)} methods: {_named(done)}." if left else f"all {len(plans)} methods.")
    ]
    if earlier:
        lines.append(f"{len(earlier)} have a search under rules 1.0, which `--tuned` refuses: {_named(earlier)}.")
    if never:
        lines.append(f"There has been no search for {len(never)}: {_named(never)}.")
    return " ".join([*lines, *(["`make protocol` carries out what is missing."] if left else [])]) + "\n"


def chosen() -> str:
    """What every search of a method chose, as a table, and how much the order of methods is one of their scales."""
    head = "| method | settings | guidance scale | validation FD | without guidance | at scale 2 |"
    lines, scored = [head, "| --- | --- | ---: | ---: | ---: | ---: |"], []
    for each in _searched():
        settings = ", ".join(f"{name}={value:g}" for name, value in each.made[each.best or 0].settings.items())
        by_scale = _by_scale(each)
        scored.append([by_scale[each.scale], by_scale[1.0], by_scale[2.0]])
        cells = [each.search.spec.method.name, markdown_escaped(settings), f"{each.scale:g}"]
        lines.append(f"| {' | '.join([*cells, *(f'{score:.1f}' for score in scored[-1])])} |")
    own, none, two = zip(*scored, strict=True)
    found = [f"{spearmanr(*pair).statistic:.2f}".replace("-", MINUS) for pair in ((none, two), (own, none), (own, two))]
    lines += [
        "",
        f"Spearman's correlation, over {len(scored)} methods, of the scores without guidance and at scale 2 is "
        f"{found[0]}; of those at the chosen scale with those without guidance it is {found[1]}, and with those at "
        f"scale 2 {found[2]}.",
    ]
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


def _by_scale(found: TuningRecord) -> dict[float | None, float]:
    """Guidance scale → mean over the seeds of the scores of what was chosen."""
    trials = [found.found(found.best or 0, seed) for seed in (None, *found.search.repeat_seeds)]
    by_scale = [each.by_scale for each in trials if each]
    return {scale: fmean(each[scale] for each in by_scale) for scale in by_scale[0]}


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
