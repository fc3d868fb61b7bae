"""Options that several commands share, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from grasp_bench.errors import UserError

Task = Annotated[str, typer.Option("--task", "-t", help="Task, or the TOML file that describes one.")]
Backbone = Annotated[
    str | None, typer.Option(help="Backbone, or NAME:FOLDER of its weights; the task's default if absent.")
]
Resolution = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Pixels a side of images, of those that the backbone supports; the task's or else its own if absent.",
    ),
]
Budget = Annotated[
    str,
    typer.Option(
        help="Budget of the task: standard, lite for about a twentieth of it, smoke to see that everything runs; or "
        "the TOML file of your own."
    ),
]
MethodSettings = Annotated[
    list[str], typer.Option("--set", metavar="NAME=VALUE", help="A setting of the method; repeatable.")
]
GuidanceSettings = Annotated[
    list[str], typer.Option(metavar="NAME=VALUE", help="A setting of the guidance; repeatable.")
]
TaskSettings = Annotated[
    list[str], typer.Option(metavar="NAME=VALUE", help="A setting of the task, which makes a table of its own.")
]
DataRoot = Annotated[
    Path | None,
    typer.Option(help="Folder of the task's download; if absent, $GRASP_BENCH_DATA/<task>, or as prepared."),
]

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder under the results, or its record.json.")]
TaskFile = Annotated[
    Path | None, typer.Option("--task", metavar="FILE.toml", help="TOML file of the task, if one describes it.")
]
RunBackbone = Annotated[
    str | None,
    typer.Option("--backbone", help="NAME:FOLDER of the pretrained weights, if they are files of your own."),
]
RunDataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", help="Folder of the task's download, if its classes come with the data."),
]

Results = Annotated[Path, typer.Option(help="Folder of the runs' records.")]
WorkDir = Annotated[Path, typer.Option(help="Folder of stages and checkpoints, which runs reuse.")]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder of caches (latents, prompts, resized images), such as a node's own disk: what is missing is made "
        "again. If absent, the work folder."
    ),
]
SyncTo = Annotated[
    Path | None,
    typer.Option(
        help="Folder where finished stages and checkpoints are kept as well, for a work folder that may vanish; what "
        "the work folder lacks is taken from there."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images generated at a time; changes no image.")]
Accumulate = Annotated[
    str,
    typer.Option(
        metavar="N|auto",
        help="Parts into which a training step's batch is split; auto: as few as fit on a GPU, one on the CPU.",
    ),
]
GradientCheckpointing = Annotated[
    str,
    typer.Option(
        metavar="on|off|auto",
        help="Recompute activations in the backward pass: slower, less memory; auto: where a step does not fit on a "
        "GPU otherwise.",
    ),
]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the outcome as JSON.")]

AUTO: Literal["auto"] = "auto"
RESULTS = Path("results")
WORK_DIR = Path(".grasp-bench")


def parts(text: str) -> int | Literal["auto"]:
    """Return what ``--accumulate`` says. Raises :class:`UserError` for anything but auto or a number from 1 on."""
    if text == AUTO:
        return AUTO
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise UserError(f"--accumulate {text}: expected auto or a whole number from 1 on.")


def checkpointing(text: str) -> bool | Literal["auto"]:
    """Return what ``--gradient-checkpointing`` says. Raises :class:`UserError` for anything but on, off and auto."""
    if text == AUTO:
        return AUTO
    if text in ("on", "off"):
        return text == "on"
    raise UserError(f"--gradient-checkpointing {text}: expected on, off or auto.")
