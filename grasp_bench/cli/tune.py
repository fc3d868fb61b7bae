"""``grasp-bench tune``: the same search for the settings of every method or guidance, on validation images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from grasp_bench.cli import options as shared
from grasp_bench.contracts.spec import STANDARD
from grasp_bench.errors import Skip, UserError

if TYPE_CHECKING:
    from grasp_bench.contracts.record import Sampler
    from grasp_bench.run.plan import Plan
    from grasp_bench.tuning.trials import TuningRecord


def tune(
    method: Annotated[
        list[str],
        typer.Option("--method", "-m", help="Method; repeat the option for several, each with as many trials."),
    ],
    task: shared.Task,
    guidance: Annotated[
        list[str] | None,
        typer.Option(help="Search the settings of this guidance instead, with the tuned METHOD; repeatable."),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials per method; the first uses the defaults.")] = 20,
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
) -> None:
    """Search METHOD's settings: every trial trains, generates, and scores the images against validation images.

    Every trial is saved as soon as it ends, so an interrupted search resumes and --trials can be raised. The best
    settings are used by `grasp-bench run --tuned`. With --guidance, METHOD is trained once, with its tuned settings;
    pass the best settings found to `grasp-bench run --guidance-set`, the same for all methods.
    """
    from grasp_bench.contracts.progress import Progress
    from grasp_bench.processes import launched
    from grasp_bench.run.context import Options
    from grasp_bench.run.interruption import listen
    from grasp_bench.run.plan import plan
    from grasp_bench.run.runner import check
    from grasp_bench.tuning.search import tune as carry_out
    from grasp_bench.tuning.trials import Searched, name_of

    if guidance and len(dict.fromkeys(method)) > 1:
        raise UserError("--guidance: its settings are searched with one method; give one --method.")
    if launched() > 1:
        raise UserError(f"a launcher has started {launched()} processes, but a search runs in one: start it without.")
    progress = Progress()
    options = Options(
        results,
        work_dir,
        device,
        batch_size,
        gradient_checkpointing=shared.checkpointing(gradient_checkpointing),
        accumulate=shared.parts(accumulate),
        cache_dir=cache_dir,
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
    sampler: Sampler = "tpe" if search == "tpe" else "halton"
    found = {name_of(each, of): carry_out(each, trials, options, progress, sampler, of) for each in plans}
    show(found, of)
    if any(not isinstance(each, Skip) and each.best is None for each in found.values()):
        raise typer.Exit(1)


def _searchable(plan: Plan, results: Path) -> Plan:
    """Return the plan with the settings that its method's own search chose.

    Raises :class:`UserError` for a guidance without a range to search.
    """
    from grasp_bench.tuning.chosen import with_tuned
    from grasp_bench.tuning.ranges import tuned_ranges

    if not tuned_ranges(type(plan.guidance.config)):
        raise UserError(
            f"--guidance {plan.spec.guidance.name}: it declares no range to search. `grasp-bench show` says which "
            "settings of a guidance are searched; leave this one out."
        )
    return with_tuned(plan, results)


def show(found: dict[str, TuningRecord | Skip], of: str) -> None:
    """Print a row per search: its trials, the best settings, and their score beside that of the defaults."""
    from rich.markup import escape
    from rich.table import Table

    from grasp_bench.cli.output import console
    from grasp_bench.tuning.trials import plain

    out = console()
    table = Table(of, "trials", "best settings", "validation FD", "with defaults", "no score")
    for column in (1, 3, 4, 5):
        table.columns[column].justify = "right"
    for name, record in found.items():
        if isinstance(record, Skip):
            out.print(f"{name}: skipped: {escape(record.reason)}", soft_wrap=True)
            continue
        scores = {trial.number: trial.score for trial in record.trials}
        best = next((trial for trial in record.trials if trial.number == record.best), None)
        table.add_row(
            escape(name),
            str(len(record.trials)),
            escape(plain(best.settings)) if best else "none",
            _shown(best.score if best else None),
            _shown(scores.get(0)),
            str(sum(score is None for score in scores.values())),
        )
    if table.row_count:
        out.print(table)


def _shown(score: float | None) -> str:
    return "-" if score is None else f"{score:.4g}"
