"""``grasp-bench submit``: finished runs as one file that others can verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grasp_bench.cli import options as shared
from grasp_bench.text import counted


def submit(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of runs, or their record.json.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PACK.zip",
            help="File to write; default: LABEL-seed-N.zip; for several runs TASK.zip or results.zip.",
        ),
    ] = None,
    work_dir: shared.WorkDir = shared.WORK_DIR,
    task: shared.TaskFile = None,
    backbone: shared.RunBackbone = None,
    data_root: shared.RunDataRoot = None,
) -> None:
    """Pack records, pictures, logs and the features behind the scores, for `grasp-bench verify`.

    For a task with patients' data, neither features nor pictures are packed; the command says what is left out.
    """
    from grasp_bench.cli.output import console
    from grasp_bench.results.sharing.collect import submit as pack

    packed = pack(runs, out, work_dir, task, backbone, data_root)
    shown = console()
    for record in packed.runs:
        shown.print(record.title, markup=False, soft_wrap=True)
        if record.run_id in packed.left_out:
            left_out = ", ".join(packed.left_out[record.run_id]) or "no files"
            shown.print(
                "  its task's data are private: features, predictions and everything that may show an image are "
                f"left out ({left_out}), so its scores cannot be verified from the pack.",
                markup=False,
                soft_wrap=True,
            )
    written = f"{counted(len(packed.manifest.members), 'file')}, {counted(packed.path.stat().st_size, 'byte')}"
    if packed.replaced:
        written += ", replacing an older pack"
    shown.print(
        f"{packed.path}: {written}. Check it as others will: grasp-bench verify {packed.path}",
        markup=False,
        soft_wrap=True,
    )
