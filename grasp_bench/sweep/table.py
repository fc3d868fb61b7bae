"""The cells of a sweep as a table."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from grasp_bench import screen
from grasp_bench.sweep.cells import Cell, Sweep
from grasp_bench.sweep.state import BROKEN, DONE, State, step_of


def sweep_table(sweep: Sweep, rows: Iterable[tuple[Cell, State]], caption: str) -> screen.Sheet:
    """Return one row per cell: its state, the training step that it resumes from, its time, and why it stopped."""
    shown = []
    for cell, state in rows:
        steps = cell.plan.spec.budget.steps
        step = f"{steps if state.status in DONE else step_of(cell, sweep)}/{steps}"
        time = "" if state.seconds is None else clock(state.seconds)
        style = "red" if state.status in BROKEN else ""
        shown.append([screen.Cell(each, style) for each in (cell.name, state.status, step, time, state.note)])
    return screen.Sheet("", ("cell", "state", "step", "time", "note"), shown, frozenset({2, 3}), caption=caption)


def clock(seconds: float) -> str:
    """Return the time as a clock shows it, such as "0:01:23"."""
    return str(timedelta(seconds=round(seconds)))
