"""``grasp-bench run``: one method on one task, for one seed or several."""

from __future__ import annotations

import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grasp_bench.bounds import MOST_THREADS
from grasp_bench.cli import completion
from grasp_bench.cli import options as shared
from grasp_bench.cli.defaults import from_config
from grasp_bench.contracts.spec import SMOKE, STANDARD
from grasp_bench.errors import UserError
from grasp_bench.terminal import tell
from grasp_bench.text import counted

if TYPE_CHECKING:
    import torch

    from grasp_bench.contracts.progress import Progress
    from grasp_bench.contracts.record import RunRecord, Score
    from grasp_bench.run.options import Options
    from grasp_bench.run.plan import Plan

FIRST = ("fd", "precision", "coverage", "vendi", "authenticity", "accuracy", "average_precision")
"""Metrics that a run ends with on the screen, the first :data:`MOST` that it has: all are in its record."""
MOST = 6
NO_NUMBERS = "budget smoke: a few steps that show whether everything runs. Its numbers mean nothing."


def run(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="METHOD TASK",
            help="Short for --method METHOD --task TASK.",
            show_default=False,
            autocompletion=completion.method_then_task,
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            "-m",
            help="Method; see `grasp-bench list methods`.",
            autocompletion=completion.names("methods"),
        ),
    ] = None,
    task: shared.OptionalTask = None,
    guidance: shared.Guidance = None,
    seed: Annotated[list[int], typer.Option(min=0, help="Seed; repeat the option for several runs.")] = [0],  # noqa: B006 # typer reads it, nothing changes it
    set_: shared.MethodSettings = [],  # noqa: B006 # as above
    guidance_set: shared.GuidanceSettings = [],  # noqa: B006 # as above
    task_set: shared.TaskSettings = [],  # noqa: B006 # as above
    evaluations: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Largest number of network function evaluations (NFE) per image, for every guidance alike; sets the "
            "sampling steps. Short for --task-set evaluations=N.",
        ),
    ] = None,
    tuned: Annotated[
        bool, typer.Option("--tuned", help="Use the settings that `grasp-bench tune` chose; --set takes precedence.")
    ] = False,
    backbone: shared.Backbone = None,
    resolution: shared.Resolution = None,
    allow_download: Annotated[
        bool, typer.Option("--allow-download", help="Download a backbone that is not on this machine from the hub.")
    ] = False,
    budget: shared.Budget = STANDARD,
    data_root: shared.DataRoot = None,
    results: shared.Results = shared.RESULTS,
    work_dir: shared.WorkDir = shared.WORK_DIR,
    cache_dir: shared.CacheDir = None,
    sync_to: shared.SyncTo = None,
    device: shared.Device = "auto",
    batch_size: shared.BatchSize = 100,
    log_every: Annotated[int, typer.Option(min=1, help="Training steps between two rows of the log.")] = 50,
    checkpoint_minutes: Annotated[
        float,
        typer.Option(min=0, help="Minutes between two checkpoints of the training; 0: one with every row of the log."),
    ] = 10,
    gradient_checkpointing: shared.GradientCheckpointing = shared.AUTO,
    accumulate: shared.Accumulate = shared.AUTO,
    processes: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_THREADS, help="Processes on this machine that share the run, one GPU each."),
    ] = None,
    shard: Annotated[
        bool,
        typer.Option(
            "--shard", help="Shard the pretrained weights over the processes instead of replicating them (FSDP)."
        ),
    ] = False,
    compile: Annotated[bool, typer.Option("--compile", help="Compile the transformer for training.")] = False,
    verify_stages: Annotated[
        bool,
        typer.Option(
            "--verify-stages", help="Compare the hashes of finished stages, also of files that seem unchanged."
        ),
    ] = False,
    all_scores: shared.AllScores = False,
    tracker: Annotated[
        list[str], typer.Option(help="Also log to tensorboard, wandb, mlflow, trackio, …; repeatable.")
    ] = [],  # noqa: B006 # as above
    threads: shared.Threads = None,
    estimate: Annotated[
        bool, typer.Option("--estimate/--no-estimate", help="Say first what the run will take, or begin at once.")
    ] = True,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Fine-tune METHOD on TASK, generate images, score them, and write a record.

    Finished stages are reused and interrupted ones are resumed, so the same command can always be repeated.
    """
    from rich.console import Console

    from grasp_bench.contracts.progress import Progress
    from grasp_bench.errors import NonFiniteError
    from grasp_bench.processes import launch, launched, own_index
    from grasp_bench.run.interruption import SIGNALS, listen
    from grasp_bench.run.options import Options
    from grasp_bench.run.plan import plan
    from grasp_bench.run.runner import check
    from grasp_bench.run.runner import run as carry_out
    from grasp_bench.tuning.chosen import with_tuned

    if names:  # what is given takes precedence over the config file
        method = None if from_config(context, "method") else method
        task = None if from_config(context, "task") else task
    method, task = _named(names or [], method, task)
    if processes and launched() > 1 and processes != launched():
        raise UserError(
            f"--processes {processes}: a launcher has started {launched()} processes; leave the option out."
        )
    progress = Progress(Console(quiet=True)) if own_index() else shared.told(quiet, verbose)
    options = Options(
        results,
        work_dir,
        device,
        batch_size,
        log_every,
        checkpoint_minutes,
        shared.checkpointing(gradient_checkpointing),
        shared.parts(accumulate),
        shard,
        compile,
        verify_stages,
        tuple(dict.fromkeys(tracker)),
        cache_dir,
        sync_to,
        threads,
    )
    plans = [
        plan(
            method=method,
            task=task,
            seed=number,
            guidance=guidance,
            backbone=backbone,
            resolution=resolution,
            budget=budget,
            method_settings=set_,
            task_settings=[*task_set, *([f"evaluations={evaluations}"] if evaluations else [])],
            guidance_settings=guidance_set,
            data_root=data_root,
            download=progress.say if allow_download else None,
        )
        for number in dict.fromkeys(seed)
    ]
    if tuned:
        plans = [with_tuned(each, results) for each in plans]
    for each in plans:
        check(each, options, max(processes or 1, launched()))
    if processes and processes > launched():
        raise typer.Exit(launch(processes, sys.argv[1:], plans[0].threads))
    # a launcher ends the others with SIGTERM when one fails, and that one says why
    listen(SIGNALS if launched() == 1 else (signal.SIGUSR1,))
    try:
        for each in plans:
            progress.say(each.title)
            if each.spec.budget.name == SMOKE:
                progress.say(NO_NUMBERS)
            told = estimate and not quiet
            foretell = partial(_foretell, each, (task, budget), options, progress) if told else None
            path, record = carry_out(each, options, progress, foretell)
            if own_index() == 0:
                show(record, path, all_scores)
    except NonFiniteError as error:
        tell(f"error: {error}", sys.stderr)
        raise typer.Exit(1) from error


def _named(names: list[str], method: str | None, task: str | None) -> tuple[str, str]:
    """Return method and task, each by its place or by its option. Raises :class:`UserError` unless both are there."""
    if names and (len(names) != 2 or method or task):
        raise UserError(
            f"run {' '.join(names)}: expected METHOD and TASK, such as `grasp-bench run grasp digits-lt`, or --method "
            "and --task, and not both."
        )
    if names:
        return names[0], names[1]
    if not (method and task):
        missing = [f"--{kind}" for kind, name in (("method", method), ("task", task)) if not name]
        raise UserError(f"run: {' and '.join(missing)} missing. For instance `grasp-bench run grasp digits-lt`.")
    return method, task


def _foretell(plan: Plan, named: tuple[str, str], options: Options, progress: Progress, device: torch.device) -> None:
    """Say what a run will take on a device; ``named`` are its task and its budget."""
    from grasp_bench.estimate.ahead import before_run
    from grasp_bench.processes import launched
    from grasp_bench.run.environment import card

    progress.say(before_run(plan, *named, options, launched(), card(device), device))


def _first(titles: dict[str, list[Score]]) -> list[str]:
    """Return the titles of the scores to look at first, in the record's order."""

    def rank(label: str) -> tuple[bool, int]:
        score = titles[label][0]
        unusual = (score.source, score.test_set) != ("generated", "test")
        return unusual, FIRST.index(score.metric) if score.metric in FIRST else len(FIRST)

    chosen = sorted(titles, key=rank)[:MOST]
    return [label for label in titles if label in chosen]


def show(record: RunRecord, path: Path, all_scores: bool) -> None:
    """Print the run's scores, all or the first to look at, and the path of its record."""
    from grasp_bench.cli.output import console, table
    from grasp_bench.contracts.record import ARROWS, CLASS_MEANS, of_groups, titled

    out = console()
    if record.status != "finished":
        out.print(f"{record.row}: {record.status}: {record.reason or ''}", soft_wrap=True, markup=False)
    else:
        groups = list(dict.fromkeys(metric.group for metric in record.scores))
        rows, titles = [], titled(of_groups(record.scores))
        for label in titles if all_scores else _first(titles):
            scores = titles[label]
            shown = {
                score.group: f"n too small (n={score.n})" if score.value is None else f"{score.value:.4g}"
                for score in scores
            }
            rows.append([f"{label} {ARROWS[scores[0].direction]}", *(shown.get(group, "-") for group in groups)])
        out.print(table(record.title, ("score", *groups), rows, right=groups))
        if any(score.scope == "class mean" for scores in titles.values() for score in scores):
            out.print(CLASS_MEANS, soft_wrap=True)
        if hidden := len(titles) - len(rows):
            out.print(f"{counted(hidden, 'more score')} with --all-scores, or in the record")
        for score in record.scores:
            if score.scope == "whole test set" and score.value is not None:
                beside = "" if score.reference is None else f", training images {score.reference:.4g}"
                out.print(f"{score.label}: {score.value:.4g} (n={score.n:,}{beside})", soft_wrap=True, markup=False)
        if record.cost:
            cost = record.cost
            out.print(
                f"{cost.trainable_parameters:,} trainable parameters, trained in {cost.train_seconds:.0f} s, "
                f"peak memory {cost.peak_memory_mib:.0f} MiB, {cost.network_evaluations_per_image:g} NFE per image",
                soft_wrap=True,
            )
    out.print(f"record: {path}", soft_wrap=True, markup=False)
