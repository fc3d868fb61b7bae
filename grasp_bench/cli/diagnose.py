"""``grasp-bench diagnose``: whether gradients of head and tail, and within a partition's clusters, are aligned."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grasp_bench.cli import completion
from grasp_bench.cli import options as shared
from grasp_bench.contracts.spec import STANDARD
from grasp_bench.errors import UserError
from grasp_bench.terminal import tell

PRETRAINED = "vanilla-ft"  # before its first step: the pretrained transformer, with all its weights trainable


def diagnose(
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            "-t",
            help="Task, or the TOML file that describes one; not needed with --run.",
            autocompletion=completion.names("tasks"),
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            "-m",
            help="Method; if absent, the pretrained transformer with all its weights.",
            autocompletion=completion.names("methods"),
        ),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(metavar="RUN", help="A run's folder, its record.json, or an exported folder.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="STEP,…", help="Training steps to look at; default: 0, or the last step of a RUN."),
    ] = None,
    batches: Annotated[
        int, typer.Option(min=4, help="Images per class; fewer if a class has fewer, and then intervals are marked.")
    ] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Seed of images and noise; without RUN, of the training too.")] = 0,
    set_: shared.MethodSettings = [],  # noqa: B006 # typer reads it, nothing changes it
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Backbone, or NAME:FOLDER of its weights; default: that of the run or of the task.",
            autocompletion=completion.names("backbones"),
        ),
    ] = None,
    resolution: shared.Resolution = None,
    budget: Annotated[
        str,
        typer.Option(help="Budget of the task, or a TOML file; not with --run.", autocompletion=completion.budgets),
    ] = STANDARD,
    data_root: shared.DataRoot = None,
    results: Annotated[
        Path, typer.Option(help="Folder to write <task>/diagnose/<label>/seed-<n>@<step>.json, .png and .md to.")
    ] = Path("results"),
    work_dir: shared.WorkDir = shared.WORK_DIR,
    device: shared.Device = "auto",
    threads: shared.Threads = None,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Measure how well gradients of groups and classes are aligned, by kind of layer and noise level.

    Alignment is compared with chance, and every partition of the classes with random ones. A paragraph says what the
    numbers do and do not show. Only training images are used.
    """
    from grasp_bench.diagnose.subject import of_plan, of_run, parse_steps
    from grasp_bench.run.plan import plan

    if run is not None:
        if set_ or budget != STANDARD or resolution:
            option = (
                f"--set {set_[0]}" if set_ else f"--resolution {resolution}" if resolution else f"--budget {budget}"
            )
            raise UserError(f"{option}: {run} has its own. Leave it out.")
        file = Path(task) if task and task.endswith(".toml") else None
        subject = of_run(run, file, backbone, data_root, work_dir)
        spec = subject.plan.spec
        for option, given, own in (("--method", method, spec.method.name), ("--task", task, spec.task.name)):
            if given is not None and given != own and not (option == "--task" and file):
                raise UserError(f"{option} {given}: {run} is of {own}. Leave it out, or name another run.")
    elif task is None:
        raise UserError("neither a task nor a run is given. Name one: --task digits-lt, or --run RUN.")
    else:
        subject = of_plan(
            plan(
                method=method or PRETRAINED,
                task=task,
                seed=seed,
                backbone=backbone,
                resolution=resolution,
                budget=budget,
                method_settings=set_,
                data_root=data_root,
            )
        )
    steps = parse_steps(at, subject, subject.steps if run else 0)

    from grasp_bench.diagnose.run import diagnose as measure
    from grasp_bench.processes import pick_device
    from grasp_bench.run.options import Options

    options = Options(results, work_dir, device, threads=threads)
    for path, text in measure(subject, steps, batches, seed, options, pick_device(device), shared.told(quiet, verbose)):
        tell(text)
        tell(f"{path.with_suffix('')}.json, .png, .md\n")
