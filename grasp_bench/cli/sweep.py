"""``grasp-bench sweep``: many runs from one file, on this machine or on a cluster."""

from __future__ import annotations

import shlex
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grasp_bench.cli import options as shared
from grasp_bench.errors import UserError
from grasp_bench.terminal import tell
from grasp_bench.text import counted as amount

if TYPE_CHECKING:
    from grasp_bench.contracts.progress import Progress
    from grasp_bench.sweep.cells import Cell, Sweep
    from grasp_bench.sweep.state import CellStatus, State


class Launcher(StrEnum):
    """Where the cells of a sweep run."""

    LOCAL = "local"
    SLURM = "slurm"
    PRINT = "print"


def sweep(
    file: Annotated[Path, typer.Argument(metavar="SWEEP.toml", help="Methods, tasks, seeds and settings to combine.")],
    launcher: Annotated[
        Launcher, typer.Option(help="Run on this machine, submit jobs to a SLURM cluster, or print the commands.")
    ] = Launcher.LOCAL,
    max_parallel: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Cells at a time; if absent, as many as there are GPUs for, or one; on a cluster, what it allows.",
        ),
    ] = None,
    only_missing: Annotated[
        bool, typer.Option("--only-missing", help="Start cells that have no record or were cancelled; the default.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also start cells that failed or ran out of memory.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Start every cell that is not running, also finished and skipped ones. Finished stages are still "
            "reused; to recompute them, remove the sweep's work_dir.",
        ),
    ] = False,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Run every combination in SWEEP.toml that has not finished yet, so the command can be repeated.

    A cell that fails does not stop the others. After Ctrl-C all of them can be resumed.
    """
    from grasp_bench.contracts.record import BROKEN
    from grasp_bench.sweep.cells import read_sweep
    from grasp_bench.sweep.slurm import find_jobs
    from grasp_bench.sweep.state import states

    if only_missing + retry_failed + force > 1:
        raise UserError("--only-missing, --retry-failed and --force exclude each other; give one of them.")
    asked, progress = read_sweep(file), shared.told(quiet, verbose)
    found = states(asked, find_jobs(asked))
    started = _startable(retry_failed, force)
    cells = [cell for cell, state in zip(asked.cells, found, strict=True) if state.status in started]
    for cell, state in zip(asked.cells, found, strict=True):
        if state.status in BROKEN and cell not in cells:
            progress.say(f"left alone ({state.status}): {cell.plan.title}: {state.note}; --retry-failed starts it")
    if cells and not quiet:
        from grasp_bench.estimate.ahead import before_sweep

        card = partial(_card, asked.config.options.device) if launcher is Launcher.LOCAL else None
        progress.say(before_sweep(file, [cell.plan for cell in asked.cells], card))
    if launcher is Launcher.PRINT:
        for cell in cells:
            tell(shlex.join(["grasp-bench", "--no-defaults", *cell.arguments]))
    elif launcher is Launcher.SLURM:
        _submit(asked, cells, max_parallel, progress)
    else:
        _run_here(asked, cells, max_parallel, progress)


def _startable(retry_failed: bool, force: bool) -> tuple[CellStatus, ...]:
    """Return the states whose cells are started."""
    from grasp_bench.contracts.record import BROKEN, DONE

    missing: tuple[CellStatus, ...] = ("missing", "cancelled")
    return missing + (BROKEN if retry_failed or force else ()) + (DONE if force else ())


def _submit(asked: Sweep, cells: list[Cell], max_parallel: int | None, progress: Progress) -> None:
    from grasp_bench.sweep.slurm import submit

    if not cells:
        progress.say(f"{asked.path}: nothing to submit")
        return
    ids = submit(asked, cells, max_parallel)
    progress.say(
        f"submitted {amount(len(set(ids.values())), 'job')} for {amount(len(ids), 'cell')}; "
        f"`grasp-bench status {shlex.quote(str(asked.path))} --watch` follows them"
    )


def _run_here(asked: Sweep, cells: list[Cell], max_parallel: int | None, progress: Progress) -> None:
    from grasp_bench.sweep.local import make_slots, run_cells
    from grasp_bench.sweep.slurm import find_jobs
    from grasp_bench.sweep.state import counted, states

    options = asked.config.options
    if cells:
        run_cells(asked, cells, make_slots(max_parallel, options.device, options.processes or 1), progress)
    found = states(asked, find_jobs(asked))
    progress.say(f"{amount(len(found), 'cell')}: {counted(found)}")
    if not all_well(found):
        raise typer.Exit(1)


def _card(device: str) -> tuple[str, float] | None:
    from grasp_bench.processes import pick_device
    from grasp_bench.run.environment import card

    return card(pick_device(device))


def all_well(found: list[State]) -> bool:
    """Return whether every cell is done or still running."""
    from grasp_bench.contracts.record import DONE
    from grasp_bench.sweep.state import BUSY

    return all(state.status in DONE + BUSY for state in found)
