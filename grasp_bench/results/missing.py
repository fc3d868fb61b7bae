"""Which runs of a grid are not there yet, and the commands that make them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from grasp_bench import plugins
from grasp_bench.contracts.record import Status
from grasp_bench.errors import UserError, did_you_mean
from grasp_bench.results.choose import check_tasks, is_among, matches
from grasp_bench.results.options import Options
from grasp_bench.results.summary import Runs, RunSummary

THERE: tuple[Status, ...] = ("finished", "skipped")
BROKEN: tuple[Status, ...] = ("failed", "oom")
"""Tried, and to no avail: shown by the report itself, and made again by who has mended the cause."""


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


def find_missing(runs: Runs, options: Options, results: Path) -> Grid:
    """What the grid of methods × guidances × tasks × seeds lacks, separately for each budget.

    Its axes are what the recorded runs that pass the filters have, and whatever plugins ``--task``, ``--method`` and
    ``--guidance`` name besides. A run that was cancelled is missing; one that failed or ran out of memory is not.
    Raises :class:`UserError` for a name that neither a run nor a plugin has.
    """
    if not runs.summaries:
        check_tasks(runs, options, results)
    found = [run for run in runs.summaries if matches(run, Options(task=options.task))] or list(runs.summaries)
    cells = there = broken = 0
    missing: list[Missing] = []
    for budget in dict.fromkeys(run.budget for run in found):
        of_budget = [run for run in found if run.budget == budget]
        axes = _axes(of_budget, runs, options)
        state = _states(of_budget)
        for task in axes.tasks:
            for method in axes.methods:
                for guidance in axes.guidances:
                    status = {seed: state.get((task, method, guidance, seed), "") for seed in axes.seeds}
                    cells += len(status)
                    there += sum(each in THERE for each in status.values())
                    broken += sum(each in BROKEN for each in status.values())
                    lacking = tuple(seed for seed, each in status.items() if each not in THERE + BROKEN)
                    if lacking:
                        missing.append(Missing(task, method, guidance, lacking, results))
    return Grid(cells, there, broken, tuple(missing))


def missing_text(grid: Grid) -> str:
    """The commands, one a line, below comments that say how many runs there are."""
    lacking = grid.cells - grid.there - grid.broken
    lines = [f"# {lacking} of {grid.cells} runs are missing"]
    if grid.broken:
        lines.append(f"# {grid.broken} more failed or ran out of memory: `grasp-bench report` says why")
    return "\n".join([*lines, *(each.command for each in grid.missing)]) + "\n"


@dataclass(frozen=True)
class _Axes:
    tasks: list[str]
    methods: list[str]
    guidances: list[str]
    seeds: list[int]


def _axes(found: Sequence[RunSummary], runs: Runs, options: Options) -> _Axes:
    recorded = runs.summaries
    tasks = dict.fromkeys(_task(run) for run in found if matches(run, Options(task=options.task)))
    methods = [run for run in found if matches(run, Options(method=options.method))]
    guidances = [run for run in found if matches(run, Options(guidance=options.guidance))]
    others = {
        "task": _named(
            "tasks", "task", options.task, {name for run in recorded for name in (run.task, run.task_label)}
        ),
        "method": _named("methods", "method", options.method, {n for run in recorded for n in (run.method, run.label)}),
        "guidance": _named("guidance", "guidance", options.guidance, {run.guidance for run in recorded}),
    }
    return _Axes(
        [*tasks, *others["task"]],
        [*dict.fromkeys(run.method_arguments for run in methods), *(f"--method {name}" for name in others["method"])],
        [
            *dict.fromkeys(run.guidance_arguments for run in guidances),
            *(f"--guidance {name}" for name in others["guidance"]),
        ],
        sorted({run.seed for run in found}),
    )


def _named(kind: plugins.Kind, option: str, names: Iterable[str], recorded: set[str]) -> Iterator[str]:
    """The names that no run has; each has to be a plugin's."""
    known = plugins.entries(kind)
    for name in names:
        if is_among(recorded, name):
            continue
        if name not in known:
            hint = did_you_mean(name, [*recorded, *known])
            raise UserError(
                f"--{option} {name}: neither a run nor a plugin has this name.{hint} See `grasp-bench list`."
            )
        yield name


def _task(run: RunSummary) -> str:
    return f"{run.task} {run.task_arguments}".rstrip()


def _states(runs: Iterable[RunSummary]) -> dict[tuple[str, str, str, int], str]:
    """(Task, method, guidance, seed) → status; a run that finished stands for others of its cell."""
    found: dict[tuple[str, str, str, int], str] = {}
    for run in sorted(runs, key=lambda run: run.status in THERE):
        found[_task(run), run.method_arguments, run.guidance_arguments, run.seed] = run.status
    return found
