"""``grasp-bench export``: what a run trained, as a folder that loads by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder among the results, or its record.json.")],
    to: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write: new or empty.")],
    work_dir: Annotated[Path, typer.Option(help="Where the run's stages are.")] = Path(".grasp-bench"),
    backbone: Annotated[
        str | None, typer.Option(help="NAME:FOLDER of the pretrained weights, where they are files of yours.")
    ] = None,
    task: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="The file of a task that is described by one.")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Folder of the task's download, where its classes come with it.")
    ] = None,
) -> None:
    """Write what RUN trained to DIR: safetensors, a model card, and all that `grasp_bench.load(DIR)` needs.

    LoRA runs are written in the formats of peft and diffusers, too.
    """
    from grasp_bench.cli.output import console
    from grasp_bench.export.restore import find_record, plan_of, trained_weights
    from grasp_bench.export.write import check_free
    from grasp_bench.export.write import export as write_export

    check_free(to)
    path, record = find_record(run)
    plan = plan_of(record, task, backbone, data_root)
    files = write_export(plan, record, trained_weights(plan, record, work_dir), path.parent, to)
    out = console()
    out.print(f"{record.label} on {record.task_label}, seed {record.spec.seed}: {to}", markup=False, soft_wrap=True)
    for file in files:
        out.print(f"  {file.name}  {file.stat().st_size:,} bytes", markup=False, soft_wrap=True)
    if plan.trained_on.task.private:
        out.print("Trained on data that may not be shared: nor may these weights, unless its licence says so.")
