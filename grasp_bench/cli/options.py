"""Options that several commands share, each declared once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, ParamSpec

import typer

from grasp_bench.bounds import MOST_THREADS, is_count
from grasp_bench.cli import completion
from grasp_bench.errors import UserError
from grasp_bench.home import with_home

if TYPE_CHECKING:
    from grasp_bench.contracts.progress import Progress

P = ParamSpec("P")

_task = typer.Option(
    "--task", "-t", help="Task, or the TOML file that describes one.", autocompletion=completion.names("tasks")
)
Task = Annotated[str, _task]
OptionalTask = Annotated[str | None, _task]
Guidance = Annotated[
    str | None,
    typer.Option(
        help="Guidance for sampling; the task's default if absent.", autocompletion=completion.names("guidance")
    ),
]
Backbone = Annotated[
    str | None,
    typer.Option(
        help="Backbone, or NAME:FOLDER of its weights; the task's default if absent.",
        autocompletion=completion.names("backbones"),
    ),
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
        "the TOML file of your own.",
        autocompletion=completion.budgets,
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
        help="Folder of caches (latents, prompts, resized images), such as a node's own disk: what is missing is "
        "recomputed. If absent, the work folder."
    ),
]
SyncTo = Annotated[
    Path | None,
    typer.Option(
        help="Folder where finished stages and checkpoints are kept as well, for a work folder that may vanish; what "
        "the work folder lacks is taken from there."
    ),
]
AllScores = Annotated[bool, typer.Option("--all-scores", help="Print every score, and not only the first to look at.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=MOST_THREADS,
        help="Threads of the CPU; if absent, $OMP_NUM_THREADS, else one for a tiny backbone and torch's own number "
        "for others.",
    ),
]
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
PrintJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the outcome as JSON.")]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Tell no progress, only results and errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Also tell which stages are reused, and where.")]

AUTO: Literal["auto"] = "auto"
RESULTS = Path("results")
WORK_DIR = Path(".grasp-bench")


def told(quiet: bool, verbose: bool) -> Progress:
    """Return progress as loud as asked. Raises :class:`UserError` for both options at once."""
    from grasp_bench.contracts.progress import Loudness, Progress

    if quiet and verbose:
        raise UserError("--quiet and --verbose exclude each other; give one of them.")
    return Progress(loudness=Loudness.QUIET if quiet else Loudness.VERBOSE if verbose else Loudness.NORMAL)


def expands_home(command: Callable[P, None]) -> Callable[P, None]:
    """Return the command with ``~`` in its paths replaced by the user's home folder, as in ``--out=~/table.tex``.

    A shell does so only where a word begins with it.
    """

    @functools.wraps(command)
    def called(*arguments: P.args, **named: P.kwargs) -> None:
        command(*arguments, **{name: with_home(value) for name, value in named.items()})  # type: ignore[arg-type]

    return called


def parts(text: str) -> int | Literal["auto"]:
    """Return what ``--accumulate`` says. Raises :class:`UserError` for anything but auto or a number from 1 on."""
    if text == AUTO:
        return AUTO
    if is_count(text) and int(text) >= 1:
        return int(text)
    raise UserError(f"--accumulate {text}: expected auto or a whole number from 1 on.")


def checkpointing(text: str) -> bool | Literal["auto"]:
    """Return what ``--gradient-checkpointing`` says. Raises :class:`UserError` for anything but on, off and auto."""
    if text == AUTO:
        return AUTO
    if text in ("on", "off"):
        return text == "on"
    raise UserError(f"--gradient-checkpointing {text}: expected on, off or auto.")
