"""The functions behind ``grasp_bench.run`` and ``grasp_bench.load``: what the command line does, for scripts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from grasp_bench.contracts.spec import STANDARD

if TYPE_CHECKING:
    from grasp_bench.contracts.record import RunRecord
    from grasp_bench.export.pipeline import FineTunedPipeline

    FilePath = str | os.PathLike[str]
    Values = Mapping[str, str | int | float | bool]


def run(
    method: str,
    task: FilePath,
    *,
    seed: int = 0,
    guidance: str | None = None,
    backbone: str | None = None,
    budget: str = STANDARD,
    method_settings: Values | None = None,
    guidance_settings: Values | None = None,
    task_settings: Values | None = None,
    tuned: bool = False,
    data_root: FilePath | None = None,
    allow_download: bool = False,
    results: FilePath = "results",
    work_dir: FilePath = ".grasp-bench",
    device: str = "auto",
    batch_size: int = 100,
    accumulate: int = 1,
    gradient_checkpointing: bool = False,
    compile: bool = False,
    quiet: bool = False,
) -> RunRecord:
    """Fine-tune a method on a task, generate images, score them, and write and return the record.

    Does what ``grasp-bench run`` does, with the same names: a finished run returns its record at once, and an
    interrupted one is resumed from its last checkpoint.

    Args:
        method: Name of a method, as ``grasp-bench list methods`` prints it.
        task: Name of a task, or the path of the TOML file that describes one.
        seed: Seed of data order, noise, initial weights and sampling.
        guidance: Name of a guidance; the task's default if None.
        backbone: Name of a backbone, or ``NAME:FOLDER`` of its weights; the task's default if None.
        budget: ``"standard"``, or ``"smoke"`` to see within seconds that everything runs.
        method_settings: Settings of the method that differ from their defaults (``--set``).
        guidance_settings: Settings of the guidance (``--guidance-set``).
        task_settings: Settings of the task (``--task-set``); they make a table of its own.
        tuned: Whether to use the settings that ``grasp-bench tune`` chose; ``method_settings`` take precedence.
        data_root: Folder of the task's download, of a task that needs one.
        allow_download: Whether a backbone that is not on this machine may be fetched from the hub.
        results: Folder of the records.
        work_dir: Folder of stages and checkpoints, which later runs reuse.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        batch_size: Images generated at a time; changes no image.
        accumulate: Forward and backward passes over which a training step's batch is split; saves memory.
        gradient_checkpointing: Whether to recompute activations in the backward pass; saves memory.
        compile: Whether to compile the transformer for training.
        quiet: Whether to print no progress.

    Returns:
        The record, whose ``status`` is "finished", or "skipped" with the reason where the method does not apply.

    Raises:
        UserError: For whatever is unknown, out of bounds or missing; the message says how to fix it.
    """
    from rich.console import Console

    from grasp_bench.contracts.progress import Progress
    from grasp_bench.run.context import Options
    from grasp_bench.run.plan import plan
    from grasp_bench.run.runner import check
    from grasp_bench.run.runner import run as carry_out
    from grasp_bench.tuning.chosen import with_tuned

    progress = Progress(Console(quiet=True)) if quiet else Progress()
    options = Options(
        Path(results),
        Path(work_dir),
        device,
        batch_size,
        gradient_checkpointing=gradient_checkpointing,
        accumulate=accumulate,
        compile=compile,
    )
    planned = plan(
        method=method,
        task=os.fspath(task),
        seed=seed,
        guidance=guidance,
        backbone=backbone,
        budget=budget,
        method_settings=_assignments(method_settings),
        guidance_settings=_assignments(guidance_settings),
        task_settings=_assignments(task_settings),
        data_root=Path(data_root) if data_root is not None else None,
        download=progress.say if allow_download else None,
    )
    if tuned:
        planned = with_tuned(planned, options.results)
    check(planned, options, 1)
    return carry_out(planned, options, progress)[1]


def load(folder: FilePath, backbone: str | None = None, device: str = "auto") -> FineTunedPipeline:
    """Load what ``grasp-bench export`` wrote as a pipeline of diffusers.

    Args:
        folder: The exported folder.
        backbone: The pretrained weights where they are files of the user's, as in ``"sd3:/models/sd3.5-medium"``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Returns:
        The pretrained pipeline with the trained method attached.

    Raises:
        UserError: Where the folder is damaged or the backbone is of another revision.
    """
    from grasp_bench.export.pipeline import load as load_folder

    return load_folder(Path(folder), backbone, device)


def _assignments(settings: Values | None) -> list[str]:
    return [f"{name}={value}" for name, value in (settings or {}).items()]
