"""``grasp-bench data export``: a task's images in class folders, with labels and prompts, for other trainers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grasp_bench.cli import completion
from grasp_bench.cli import options as shared
from grasp_bench.errors import UserError
from grasp_bench.text import counted


def export(
    task: shared.Task,
    split: Annotated[
        str,
        typer.Option(
            metavar="SPLIT",
            help="train, validation or test; what no one should train on is test.",
            autocompletion=completion.among(("train", "validation", "test")),
        ),
    ],
    to: Annotated[Path, typer.Option(metavar="DIR", help="New folder: a sub-folder per class, CSV, metadata.jsonl.")],
    prompts_out: Annotated[
        Path | None,
        typer.Option(metavar="prompts.csv", help="Also write what to generate: prompts, and numbers of images."),
    ] = None,
    private: Annotated[
        bool,
        typer.Option("--private", help="Confirm that images of a private task may be written to DIR as they are."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the run, where the task draws its split by it.")] = 0,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Whose images, as it reads them; the task's default if absent.",
            autocompletion=completion.names("backbones"),
        ),
    ] = None,
    resolution: shared.Resolution = None,
    budget: shared.Budget = "standard",
    task_set: shared.TaskSettings = [],  # noqa: B006 # typer reads it, nothing changes it
    data_root: shared.DataRoot = None,
    results: shared.Results = shared.RESULTS,
    work_dir: shared.WorkDir = shared.WORK_DIR,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Write the images of a task's split as PNG, so that another trainer can be given exactly them.

    They are of the size at which runs read them. `labels.csv` and `metadata.jsonl`, by which Hugging Face's
    `imagefolder` reads the folder, hold file, class, prompt and group of every image.
    """
    from grasp_bench.cli.outputs import begins_with, check_replaceable
    from grasp_bench.contracts.entry import Entry
    from grasp_bench.io import as_csv
    from grasp_bench.run.entry.evaluate import Table
    from grasp_bench.run.entry.export import PROMPT_COLUMNS, SET_COLUMNS, check_target, export_split, write_prompts
    from grasp_bench.run.options import Options

    check_replaceable(
        prompts_out, "data export", begins_with(*(as_csv([columns]) for columns in (PROMPT_COLUMNS, SET_COLUMNS)))
    )
    progress = shared.told(quiet, verbose)
    table = Table(task, seed, backbone, resolution, budget, tuple(task_set), data_root)
    plan = table.plan(Entry("export", {}))
    if plan.private and not private:
        raise UserError(
            f"task {plan.spec.task.name} is private: its images may show patients, and its licence says who may see "
            "them. Add --private to confirm that they may be written to this folder."
        )
    check_target(plan, to, results)
    options = Options(results, work_dir, "cpu")
    count = export_split(plan, split, to, options, progress)
    progress.say(f"{to}: {counted(count, 'image')} of {split} of {plan.task_label}")
    if prompts_out:
        count = write_prompts(plan, prompts_out, options, progress)
        what = "images to generate" if plan.task.multilabel else "classes"
        progress.say(f"{prompts_out}: prompts of {count:,} {what}")
