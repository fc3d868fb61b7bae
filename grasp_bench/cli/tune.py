"""``grasp-bench tune``: the same search for the settings of every method or guidance, on validation images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from grasp_bench.bounds import MOST_DRAWS
from grasp_bench.cli import completion
from grasp_bench.cli import options as shared
from grasp_bench.contracts.spec import SMOKE, STANDARD
from grasp_bench.errors import Skip, UserError

if TYPE_CHECKING:
    from grasp_bench.contracts.record import Sampler
    from grasp_bench.run.plan import Plan
    from grasp_bench.tuning.trials import TuningRecord


def tune(
    method: Annotated[
        list[str],
        typer.Option(
            "--method",
            "-m",
            help="Method; repeat the option for several, each with as many trials.",
            autocompletion=completion.names("methods"),
        ),
    ],
    task: shared.Task,
    guidance: Annotated[
        list[str] | None,
        typer.Option(
            help="Search the settings of this guidance instead, with every tuned METHOD; repeatable.",
            autocompletion=completion.names("guidance"),
        ),
    ] = None,
    trials: Annotated[
        int, typer.Option(min=1, max=MOST_DRAWS, help="Trials per method; the first uses the defaults.")
    ] = 16,
    scales: Annotated[
        str | None,
        typer.Option(
            metavar="SCALE,...",
            help="Guidance scales at which every trial is sampled; by default 1, 1.2, 1.5, 2, 2.5, 3 and the recipe's.",
        ),
    ] = None,
    search: Annotated[
        Literal["quasi-random", "tpe"],
        typer.Option(
            help="The same quasi-random sequence for every method, or optuna's TPE, which learns from past scores."
        ),
    ] = "quasi-random",
    task_set: shared.TaskSettings = [],  # noqa: B006 # typer reads it, nothing changes it
    backbone: shared.Backbone = None,
    resolution: shared.Resolution = None,
    budget: shared.Budget = STANDARD,
    data_root: shared.DataRoot = None,
    results: Annotated[Path, typer.Option(help="Folder of the searches: <task>/tuning.")] = Path("results"),
    work_dir: shared.WorkDir = shared.WORK_DIR,
    cache_dir: shared.CacheDir = None,
    device: shared.Device = "auto",
    batch_size: shared.BatchSize = 100,
    gradient_checkpointing: shared.GradientCheckpointing = shared.AUTO,
    accumulate: shared.Accumulate = shared.AUTO,
    threads: shared.Threads = None,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Search METHOD's settings and guidance scale: every trial trains once, and is scored on validation images.

    A trial is sampled at several guidance scales, the best two are trained again at two more seeds, and the settings
    and the scale with the best mean are what `grasp-bench run --tuned` uses. Everything is saved as soon as it is
    made, so an interrupted search resumes and --trials can be raised. With --guidance, METHOD is trained with its tuned
    settings; pass what is found to `grasp-bench run --guidance-set`, or set tuned_guidances in a sweep.
    """
    from grasp_bench.cli.run import NO_NUMBERS
    from grasp_bench.processes import launched
    from grasp_bench.run.interruption import listen
    from grasp_bench.run.options import Options
    from grasp_bench.run.plan import plan
    from grasp_bench.run.recipes import Searched
    from grasp_bench.run.runner import check
    from grasp_bench.tuning.search import tune as carry_out
    from grasp_bench.tuning.trials import name_of

    if guidance and scales is not None:
        raise UserError("--scales: they are sampled in the search of a method. Leave the option out with --guidance.")
    tried = _numbers(scales)
    if launched() > 1:
        raise UserError(f"a launcher has started {launched()} processes, but a search runs in one: start it without.")
    progress = shared.told(quiet, verbose)
    options = Options(
        results,
        work_dir,
        device,
        batch_size,
        gradient_checkpointing=shared.checkpointing(gradient_checkpointing),
        accumulate=shared.parts(accumulate),
        cache_dir=cache_dir,
        threads=threads,
    )
    of: Searched = "guidance" if guidance else "method"
    guidances: list[str | None] = [*dict.fromkeys(guidance)] if guidance else [None]
    pairs = [(name, each) for name in dict.fromkeys(method) for each in guidances]
    plans = [
        plan(
            method=name,
            task=task,
            guidance=each,
            backbone=backbone,
            resolution=resolution,
            budget=budget,
            task_settings=task_set,
            data_root=data_root,
        )
        for name, each in pairs
    ]
    if guidance:
        plans = [_searchable(each, results) for each in plans]
    for each in plans:
        check(each, options, 1)
    listen()
    if plans[0].spec.budget.name == SMOKE:
        progress.say(NO_NUMBERS)
    sampler: Sampler = "tpe" if search == "tpe" else "halton"
    found = {name_of(each, of): carry_out(each, trials, options, progress, sampler, of, tried) for each in plans}
    show(found, of)
    if any(not isinstance(each, Skip) and each.best is None for each in found.values()):
        raise typer.Exit(1)


def _searchable(plan: Plan, results: Path) -> Plan:
    """Return the plan with the settings that its method's own search chose.

    Raises :class:`UserError` for a guidance without a range to search.
    """
    from grasp_bench.tuning.chosen import with_settings, with_tuned
    from grasp_bench.tuning.ranges import tuned_ranges

    if not tuned_ranges(type(plan.guidance.config)):
        raise UserError(
            f"--guidance {plan.spec.guidance.name}: it declares no range to search. `grasp-bench show` says which "
            "settings of a guidance are searched; leave this one out."
        )
    defaults = plan.guidance.config.model_dump()
    return replace(with_settings(with_tuned(plan, results), defaults, "guidance"), tuned=None)


def _numbers(words: str | None) -> list[float] | None:
    """Return the guidance scales that a user named. Raises :class:`UserError` for anything else."""
    try:
        found = None if words is None else [float(each) for each in words.split(",")]
    except ValueError:
        found = []
    if found is not None and not (found and all(0 <= each <= 100 for each in found)):
        raise UserError(f"--scales {words}: expected numbers from 0 to 100, separated by commas, such as 1,1.5,2.")
    return found


def show(found: dict[str, TuningRecord | Skip], of: str) -> None:
    """Print a row per search: its trials, what it chose, and the score of that beside that of the defaults."""
    from grasp_bench.cli.output import console, table
    from grasp_bench.tuning.trials import plain

    out = console()
    columns, rows = (of, "best settings", "trials", "scale", "FD", "default FD", "no score"), []
    for name, record in found.items():
        if isinstance(record, Skip):
            out.print(f"{name}: skipped: {record.reason}", soft_wrap=True, markup=False)
            continue
        scores = {trial.number: trial.score for trial in record.trials}
        best = next((trial for trial in record.trials if trial.number == record.best), None)
        rows.append(
            (
                name,
                plain(best.settings) if best else "none",
                str(len(record.trials)),
                _shown(record.scale),
                _shown(record.score),
                _shown(scores.get(0)),
                str(sum(score is None for score in scores.values())),
            )
        )
    if rows:
        caption = "FD: Fréchet distance to validation images, the mean over the seeds of what was repeated."
        out.print(table("", columns, rows, right=columns[2:], caption=caption))


def _shown(score: float | None) -> str:
    return "-" if score is None else f"{score:.4g}"
