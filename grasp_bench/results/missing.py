"""Which runs of a grid are not there yet, and the commands that make them."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grasp_bench import plugins
from grasp_bench.contracts.record import BROKEN, DONE
from grasp_bench.contracts.spec import run_command
from grasp_bench.errors import UserError, did_you_mean
from grasp_bench.results.board import CLOSED
from grasp_bench.results.options import Options, check_tasks, is_among, matches, names

if TYPE_CHECKING:
    import pandas as pd

AXES = {
    "task": ["task", "backbone_label", "resolution", "task_settings"],
    "method": ["method", "tuned", "method_settings"],
    "guidance": ["guidance", "guidance_settings"],
}
"""Option → the columns that tell what its name stands for; empty for a task's own backbone and for no search."""
PLAIN: dict[str, tuple[str, ...]] = {"task": ("", "", "{}"), "method": ("", "{}"), "guidance": ("{}",)}
"""Option → the columns after its name for what no run has."""


def missing_text(frame: pd.DataFrame, options: Options, results: Path) -> str:
    """Return the commands of what the grid of methods × guidances × tasks × seeds lacks, below counts as comments.

    Each budget is a grid of its own. Its axes are what the recorded runs that pass the filters have, and whatever
    plugins ``--task``, ``--method`` and ``--guidance`` name besides. A run that was cancelled is missing; one that
    failed or ran out of memory is not. Raises :class:`UserError` for a name that neither a run nor a plugin has.
    """
    if not len(frame):
        check_tasks(frame, options, results)
    runs = _runs(frame[frame["division"] == CLOSED])
    found = runs[matches(runs, Options(task=options.task))]
    cells = broken = lacking = 0
    commands: list[str] = []
    for budget, of_budget in (found if len(found) else runs).groupby("budget", sort=False):
        named = "FILE.toml" if of_budget["own_budget"].any() else str(budget)
        finished_last = of_budget.assign(there=of_budget["status"].isin(DONE)).sort_values("there", kind="stable")
        keys = finished_last[[*itertools.chain(*AXES.values()), "seed"]].itertuples(index=False, name=None)
        state = dict(zip(keys, finished_last["status"], strict=True))
        seeds = sorted(set(of_budget["seed"]))
        for parts in itertools.product(*(_axis(option, of_budget, runs, options) for option in AXES)):
            status = [state.get((*itertools.chain(*parts), seed), "") for seed in seeds]
            without = [seed for seed, each in zip(seeds, status, strict=True) if each not in DONE + BROKEN]
            cells, lacking = cells + len(seeds), lacking + len(without)
            broken += sum(each in BROKEN for each in status)
            if without:
                commands.append(_command(parts, named, without, results))
    lines = [f"# {lacking} of {cells} runs are missing"]
    if broken:
        lines.append(f"# {broken} more failed or ran out of memory: `grasp-bench report` says why")
    return "\n".join([*lines, *commands]) + "\n"


def _runs(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per run, with the columns of every axis."""
    texts = [*itertools.chain(*AXES.values()), "status", "budget"]
    runs = frame.drop_duplicates("folder").astype(dict.fromkeys(texts, object))
    own = runs["default_backbone"]
    masked = {name: runs[name].mask(own, "") for name in ("backbone_label", "resolution")}
    return runs.assign(**masked, tuned=runs["tuned"].notna())


def _command(parts: Sequence[tuple[Any, ...]], budget: str, seeds: Sequence[int], results: Path) -> str:
    (task, backbone, resolution, task_set), (method, tuned, method_set), (guidance, guidance_set) = parts
    changed = {"task": task_set, "method": method_set, "guidance": guidance_set}
    words = run_command(
        method,
        task if task in plugins.entries("tasks") else "FILE.toml",
        seeds,
        guidance=guidance,
        backbone=backbone,
        resolution=int(resolution) if resolution else None,
        budget=budget,
        changed={owner: json.loads(settings) for owner, settings in changed.items()},
        tuned=tuned,
    )
    return shlex.join(words if results == Path("results") else [*words, "--results", str(results)])


def _axis(option: str, found: pd.DataFrame, runs: pd.DataFrame, options: Options) -> Iterator[tuple[Any, ...]]:
    """What is recorded, then the names that no run has, each of which has to be a plugin's."""
    asked = getattr(options, option)
    there = found.loc[matches(found, Options(**{option: asked})), AXES[option]].drop_duplicates()
    yield from there.itertuples(index=False, name=None)
    known, recorded = plugins.entries(plugins.BY_SINGULAR[option]), names(runs, option)
    for name in asked:
        if is_among(recorded, name):
            continue
        if name not in known:
            hint = did_you_mean(name, [*recorded, *known])
            raise UserError(
                f"--{option} {name}: neither a run nor a plugin has this name.{hint} See `grasp-bench list`."
            )
        yield (name, *PLAIN[option])
