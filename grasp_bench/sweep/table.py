"""The cells of a sweep as a table."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from grasp_bench import screen
from grasp_bench.contracts.record import BROKEN, DONE
from grasp_bench.sweep.cells import Cell, Sweep
from grasp_bench.sweep.state import State, step_of


def sweep_table(sweep: Sweep, rows: Iterable[tuple[Cell, State]], caption: str) -> screen.Sheet:
    """Return one row per cell: its state, the training step that it resumes from, its time, and why it stopped.

    The task is a column where there are several, and a title otherwise; settings are one where some cell has any.
    """
    shown, tasks = [], {cell.plan.task_label for cell in sweep.cells}
    told = {"task": len(tasks) > 1, "settings": any(cell.plan.row.told for cell in sweep.cells)}
    names = [name for name in ("task", "method", "guidance", "settings", "seed") if told.get(name, True)]
    for cell, state in rows:
        steps = cell.plan.spec.budget.steps
        step = f"{steps if state.status in DONE else step_of(cell, sweep)}/{steps}"
        time = "" if state.seconds is None else clock(state.seconds)
        style = "red" if state.status in BROKEN else ""
        row = cell.plan.row
        words = {"task": cell.plan.task_label, "method": row.method, "guidance": row.guidance, "settings": row.told}
        named = [(words | {"seed": str(cell.plan.spec.seed)})[name] for name in names]
        shown.append([screen.Cell(each, style) for each in (*named, state.status, step, time, state.note)])
    columns, numbers = (*names, "state", "step", "time", "note"), (len(names) - 1, len(names) + 1, len(names) + 2)
    title = "" if told["task"] else f"task {next(iter(tasks), '')}"
    return screen.Sheet(title, columns, shown, frozenset(numbers), len(names), caption)


def clock(seconds: float) -> str:
    """Return the time as a clock shows it, such as "0:01:23"."""
    return str(timedelta(seconds=round(seconds)))
