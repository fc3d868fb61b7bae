"""The cells of a sweep as a table."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from rich.markup import escape
from rich.table import Table

from grasp_bench.sweep.cells import Cell, Sweep
from grasp_bench.sweep.state import BROKEN, DONE, State, step_of


def sweep_table(sweep: Sweep, rows: Iterable[tuple[Cell, State]], caption: str) -> Table:
    """Return one row per cell: its state, the training step that it resumes from, its time, and why it stopped."""
    table = Table("cell", "state", "step", "time", "note", caption=caption, caption_justify="left")
    table.columns[2].justify = table.columns[3].justify = "right"
    for cell, state in rows:
        steps = cell.plan.spec.budget.steps
        step = f"{steps if state.status in DONE else step_of(cell, sweep)}/{steps}"
        style = "red" if state.status in BROKEN else None
        time = "" if state.seconds is None else clock(state.seconds)
        table.add_row(escape(cell.name), state.status, step, time, escape(state.note), style=style)
    return table


def clock(seconds: float) -> str:
    """Return the time as a clock shows it, such as "0:01:23"."""
    return str(timedelta(seconds=round(seconds)))
