"""``grasp-bench status``: the state of every cell of a sweep."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from grasp_bench.cli import options as shared
from grasp_bench.errors import UserError
from grasp_bench.text import counted as amount

WATCH_SECONDS = 5


def status(
    file: Annotated[Path, typer.Argument(metavar="SWEEP.toml", help="The file given to `grasp-bench sweep`.")],
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Refresh until nothing waits or runs; exit with 1 if a cell failed."),
    ] = False,
    json_: shared.PrintJson = False,
) -> None:
    """Print the state of every cell of a sweep, wherever it runs; changes nothing."""
    from rich.live import Live

    from grasp_bench.cli.output import console, print_json
    from grasp_bench.cli.sweep import all_well
    from grasp_bench.sweep.cells import read_sweep
    from grasp_bench.sweep.slurm import find_jobs
    from grasp_bench.sweep.state import BUSY, counted, states
    from grasp_bench.sweep.table import sweep_table

    if watch and json_:
        raise UserError("--watch and --json exclude each other; give one of them.")
    asked, out = read_sweep(file), console()
    found = states(asked, find_jobs(asked))
    if json_:
        print_json([{"cell": cell.name, **vars(state)} for cell, state in zip(asked.cells, found, strict=True)])
        return
    if watch:
        with Live(console=out, auto_refresh=False, transient=True) as live:
            while any(state.status in BUSY for state in found):
                live.update(sweep_table(asked, zip(asked.cells, found, strict=True), counted(found)), refresh=True)
                time.sleep(WATCH_SECONDS)
                found = states(asked, find_jobs(asked))
    out.print(
        sweep_table(asked, zip(asked.cells, found, strict=True), f"{amount(len(found), 'cell')}: {counted(found)}")
    )
    if watch and not all_well(found):
        raise typer.Exit(1)
