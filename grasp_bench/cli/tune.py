"""``grasp-bench tune``: the same search for the settings of every method or guidance, on validation images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from grasp_bench.contracts.spec import STANDARD
from grasp_bench.errors import Skip, UserError

if TYPE_CHECKING:
    from grasp_bench.contracts.record import Sampler
    from grasp_bench.run.plan import Plan
    from grasp_bench.tuning.trials import TuningRecord


def tune(
    method: Annotated[
        list[str], typer.Option("--method", "-m", help="Method; repeat the option for several, with as many trials.")
    ],
    task: Annotated[str, typer.Option("--task", "-t", help="Task, or the TOML file that describes one.")],
    guidance: Annotated[
        list[str] | None,
        typer.Option(help="Search this guidance's settings instead, on the tuned METHOD; may be given again."),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials of each; the first has the defaults.")] = 20,
    search: Annotated[
        Literal["quasi-random", "tpe"],
        typer.Option(help="The same sequence of settings for every method, or optuna's estimator from scores so far."),
    ] = "quasi-random",
    task_set: Annotated[
        list[str], typer.Option(metavar="NAME=VALUE", help="A setting of the task: makes a search of its own.")
    ] = [],  # noqa: B006 # typer reads it, nothing changes it
    backbone: Annotated[
        str | None, typer.Option(help="Backbone, or NAME:FOLDER of its weights; the task's own if absent.")
    ] = None,
    budget: Annotated[str, typer.Option(help="Budget of the task: standard, or smoke to see that it runs.")] = STANDARD,
    data_root: Annotated[
        Path | None,
        typer.Option(help="Folder of the task's download; else $GRASP_BENCH_DATA/<task>, else as prepared."),
    ] = None,
    results: Annotated[Path, typer.Option(help="Where searches go: <task>/tuning.")] = Path("results"),
    work_dir: Annotated[Path, typer.Option(help="Where stages and checkpoints go; reused.")] = Path(".grasp-bench"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Images generated at a time; changes no image.")] = 100,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Trade training time for memory.")
    ] = False,
    accumulate: Annotated[
        int, typer.Option(min=1, help="Parts in which a training step's batch is worked on; trades time for memory.")
    ] = 1,
) -> None:
    """Search METHOD's settings: train and generate in each trial, and score the images against validation images.

    Every trial is kept as soon as it is made, so an interrupted search goes on and --trials can be raised. What was
    found is used by `grasp-bench run --tuned`. With --guidance nothing is trained but METHOD, once and as tuned; what
    was found is for `grasp-bench run --guidance-set`, of all methods alike.
    """
    from grasp_bench.contracts.progress import Progress
    from grasp_bench.processes import launched
    from grasp_bench.run.plan import plan
    from grasp_bench.run.runner import Options, check
    from grasp_bench.tuning.search import tune as carry_out
    from grasp_bench.tuning.trials import Searched, name_of

    if guidance and len(dict.fromkeys(method)) > 1:
        raise UserError("--guidance: its settings are searched on one method; give one --method.")
    if launched() > 1:
        raise UserError(f"a launcher has started {launched()} processes, and a search is one: start it without.")
    progress = Progress()
    options = Options(
        results,
        work_dir,
        device,
        batch_size,
        gradient_checkpointing=gradient_checkpointing,
        accumulate=accumulate,
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
    sampler: Sampler = "tpe" if search == "tpe" else "halton"
    found = {name_of(each, of): carry_out(each, trials, options, progress, sampler, of) for each in plans}
    show(found, of)
    if any(not isinstance(each, Skip) and each.best is None for each in found.values()):
        raise typer.Exit(1)


def _searchable(plan: Plan, results: Path) -> Plan:
    """The plan of a search of its guidance, with what its method's own search chose."""
    from grasp_bench.tuning.chosen import with_tuned
    from grasp_bench.tuning.ranges import tuned_ranges

    if not tuned_ranges(type(plan.guidance.config)):
        raise UserError(
            f"--guidance {plan.spec.guidance.name}: declares no range to search. `grasp-bench show` says what a "
            "guidance searches; leave this one out."
        )
    return with_tuned(plan, results)


def show(found: dict[str, TuningRecord | Skip], of: str) -> None:
    """A row for each: how many trials it had, and the settings of the best beside what the defaults score."""
    from rich.markup import escape
    from rich.table import Table

    from grasp_bench.cli.output import console
    from grasp_bench.tuning.trials import plain

    out = console()
    table = Table(of, "trials", "best settings", "validation FD", "of the defaults", "no score")
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
