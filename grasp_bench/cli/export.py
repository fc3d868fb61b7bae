"""``grasp-bench export``: the trained weights of a run, as a folder that loads by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from grasp_bench.cli import options as shared


def export(
    run: shared.Run,
    to: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write: new or empty.")],
    work_dir: shared.WorkDir = shared.WORK_DIR,
    backbone: shared.RunBackbone = None,
    task: shared.TaskFile = None,
    data_root: shared.RunDataRoot = None,
    merge: Annotated[
        Literal["mean", "counts", "similarity"] | None,
        typer.Option(help="Average the clusters of a run of grasp into one adapter, weighted so."),
    ] = None,
    quantize: Annotated[
        Literal["int8", "int8-guided"] | None,
        typer.Option(
            help="Store matrices as integers, with a scale per row; int8-guided, with --merge: rounded and adjusted by "
            "what the clusters give on training images."
        ),
    ] = None,
) -> None:
    """Write the weights that RUN trained to DIR: safetensors, a model card, and all that `grasp_bench.load(DIR)` needs.

    LoRA runs are also written in the formats of peft and diffusers, unless they are quantized.
    """
    from grasp_bench.cli.output import console
    from grasp_bench.export.restore import finished_record, plan_of
    from grasp_bench.export.write import check_free
    from grasp_bench.export.write import export as write_export

    check_free(to)
    path, record = finished_record(run)
    plan = plan_of(record, task, backbone, data_root)
    files = write_export(plan, record, work_dir, path.parent, to, merge, quantize)
    out = console()
    out.print(f"{record.title}: {to}", markup=False, soft_wrap=True)
    for file in files:
        out.print(f"  {file.name}  {file.stat().st_size:,} bytes", markup=False, soft_wrap=True)
    if plan.trained_on.task.private:
        out.print("Trained on data that may not be shared: nor may these weights, unless its licence allows it.")
