"""Which runs of a grid are not there yet, and the commands that make them."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grasp_bench import plugins
from grasp_bench.contracts.record import Status
from grasp_bench.errors import UserError, did_you_mean
from grasp_bench.results.choose import check_tasks, is_among, matches, names
from grasp_bench.results.options import Options

if TYPE_CHECKING:
    import pandas as pd

THERE: tuple[Status, ...] = ("finished", "skipped")
BROKEN: tuple[Status, ...] = ("failed", "oom")
"""Runs that were tried and broke: the report says why; they are rerun by whoever has fixed the cause."""


@dataclass(frozen=True)
class Missing:
    """Seeds that one combination of task, method and guidance lacks."""

    task: str
    """Its name, then what else decides the table that the run belongs to."""
    method: str
    guidance: str
    seeds: tuple[int, ...]
    results: Path

    @property
    def command(self) -> str:
        """The command that makes them."""
        name, _, rest = self.task.partition(" ")
        described = name not in plugins.entries("tasks")
        words = ["grasp-bench run", self.method, "--task", "FILE.toml" if described else name, rest, self.guidance]
        seeds = " ".join(f"--seed {seed}" for seed in self.seeds)
        elsewhere = "" if self.results == Path("results") else f"--results {shlex.quote(str(self.results))}"
        return " ".join(word for word in (*words, seeds, elsewhere) if word)


@dataclass(frozen=True)
class Grid:
    """The combinations of what is recorded and what the filters name."""

    cells: int
    there: int
    broken: int
    missing: tuple[Missing, ...]


def find_missing(frame: pd.DataFrame, options: Options, results: Path) -> Grid:
    """Return what the grid of methods × guidances × tasks × seeds lacks, separately for each budget.

    Its axes are what the recorded runs that pass the filters have, and whatever plugins ``--task``, ``--method`` and
    ``--guidance`` name besides. A run that was cancelled is missing; one that failed or ran out of memory is not.
    Raises :class:`UserError` for a name that neither a run nor a plugin has.
    """
    if not len(frame):
        check_tasks(frame, options, results)
    runs = _runs(frame)
    found = runs[matches(runs, Options(task=options.task))]
    found = found if len(found) else runs
    cells = there = broken = 0
    missing: list[Missing] = []
    for _, of_budget in found.groupby("budget", sort=False):
        axes = _axes(of_budget, runs, options)
        finished_last = of_budget.assign(there=of_budget["status"].isin(THERE)).sort_values("there", kind="stable")
        keys = finished_last[["task_words", "method_words", "guidance_words", "seed"]].itertuples(
            index=False, name=None
        )
        state = dict(zip(keys, finished_last["status"], strict=True))
        for task, method, guidance in itertools.product(*axes):
            status = {seed: state.get((task, method, guidance, seed), "") for seed in sorted(set(of_budget["seed"]))}
            cells += len(status)
            there += sum(each in THERE for each in status.values())
            broken += sum(each in BROKEN for each in status.values())
            lacking = tuple(seed for seed, each in status.items() if each not in THERE + BROKEN)
            if lacking:
                missing.append(Missing(task, method, guidance, lacking, results))
    return Grid(cells, there, broken, tuple(missing))


def _runs(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per run, with the words of the command line that make its task, method and guidance."""
    runs = frame.drop_duplicates("folder")
    texts = ("task", "method", "guidance", "task_settings", "method_settings", "guidance_settings", "status", "budget")
    runs = runs.astype(dict.fromkeys(texts, object))
    return runs.assign(
        task_words=(runs["task"] + " " + runs["task_settings"]).str.rstrip(),
        method_words=("--method " + runs["method"] + " " + runs["method_settings"]).str.rstrip(),
        guidance_words=("--guidance " + runs["guidance"] + " " + runs["guidance_settings"]).str.rstrip(),
    )


def missing_text(grid: Grid) -> str:
    """The commands, one a line, below comments that say how many runs there are."""
    lacking = grid.cells - grid.there - grid.broken
    lines = [f"# {lacking} of {grid.cells} runs are missing"]
    if grid.broken:
        lines.append(f"# {grid.broken} more failed or ran out of memory: `grasp-bench report` says why")
    return "\n".join([*lines, *(each.command for each in grid.missing)]) + "\n"


def _axes(found: pd.DataFrame, runs: pd.DataFrame, options: Options) -> tuple[list[str], list[str], list[str]]:
    """The words for every task, method and guidance."""
    tasks = found.loc[matches(found, Options(task=options.task)), "task_words"]
    methods = found.loc[matches(found, Options(method=options.method)), "method_words"]
    guidances = found.loc[matches(found, Options(guidance=options.guidance)), "guidance_words"]
    return (
        [*dict.fromkeys(tasks), *_named("tasks", "task", options.task, runs)],
        [
            *dict.fromkeys(methods),
            *(f"--method {name}" for name in _named("methods", "method", options.method, runs)),
        ],
        [
            *dict.fromkeys(guidances),
            *(f"--guidance {name}" for name in _named("guidance", "guidance", options.guidance, runs)),
        ],
    )


def _named(kind: plugins.Kind, option: str, asked: Iterable[str], runs: pd.DataFrame) -> Iterator[str]:
    """The names that no run has; each has to be a plugin's."""
    known, recorded = plugins.entries(kind), names(runs, option)
    for name in asked:
        if is_among(recorded, name):
            continue
        if name not in known:
            hint = did_you_mean(name, [*recorded, *known])
            raise UserError(
                f"--{option} {name}: neither a run nor a plugin has this name.{hint} See `grasp-bench list`."
            )
        yield name
