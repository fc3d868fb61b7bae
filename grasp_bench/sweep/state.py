"""How far the cells of a sweep are, by their records, logs and jobs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from grasp_bench.contracts.record import BROKEN, DONE, RunRecord, Status, read_record
from grasp_bench.errors import UserError
from grasp_bench.run.pipeline import stage_inputs
from grasp_bench.run.runner import is_current
from grasp_bench.run.store import Store
from grasp_bench.sweep.cells import Cell, Sweep
from grasp_bench.sweep.process import is_running

CellStatus = Status | Literal["missing", "waiting", "running"]
BUSY: tuple[CellStatus, ...] = ("waiting", "running")

CHECKPOINT = re.compile(r"step-(\d+)\.[0-9a-f]+\.safetensors")


@dataclass(frozen=True)
class State:
    """The state of a cell."""

    status: CellStatus
    seconds: int | None = None
    """Seconds that the run took, or has taken so far."""
    note: str = ""
    """Why the run did not finish, and where to look."""


@dataclass(frozen=True)
class Job:
    """What a cluster's scheduler says of the job of a cell."""

    id: str
    status: Literal["waiting", "running", "over"]
    seconds: int | None = None


def states(sweep: Sweep, jobs: Mapping[str, Job]) -> list[State]:
    """Return the state of every cell, given the jobs of cells by their names."""
    return [state_of(cell, jobs.get(cell.name)) for cell in sweep.cells]


def state_of(cell: Cell, job: Job | None = None) -> State:
    """Return the state of one cell: by a finished record, else by its process or job, else by its record."""
    found = recorded(cell)
    if found.status in DONE:
        return found
    if job and job.status != "over":
        return State(job.status, job.seconds, f"job {job.id}")
    if is_running(cell.log):
        return State("running")
    if found.status == "missing" and job:
        return State("missing", note=f"job {job.id} ended before the run did; see {cell.log}")
    return found


def recorded(cell: Cell) -> State:
    """Return the state of one cell by its record alone."""
    record = current_record(cell)
    if record is None:
        return State("missing")
    elapsed = datetime.fromisoformat(record.finished) - datetime.fromisoformat(record.started)
    reason = record.reason or ""
    note = f"{reason} (log: {cell.log})" if record.status in BROKEN else reason
    return State(record.status, round(elapsed.total_seconds()), note)


def current_record(cell: Cell) -> RunRecord | None:
    """Return the cell's record if it can be read, is of this very run, and nothing but pictures is stale or lost."""
    try:
        record = read_record(cell.record)
    except UserError:
        return None
    return record if is_current(record, cell.plan, cell.record.parent, pictures=False) else None


def step_of(cell: Cell, sweep: Sweep) -> int:
    """Return the training step of the cell's newest checkpoint; the last step once it is trained."""
    final = Store(sweep.config.options.kept, print).folder("train", stage_inputs(cell.plan)["train"])
    if final.exists():
        return cell.plan.spec.budget.steps
    partial = final.with_suffix(".partial")
    found = [CHECKPOINT.fullmatch(path.name) for path in partial.iterdir()] if partial.exists() else []
    return max((int(match[1]) for match in found if match), default=0)


def counted(found: Iterable[State]) -> str:
    """Return the counts in words, such as "3 finished, 1 failed"."""
    return ", ".join(f"{count} {status}" for status, count in Counter(each.status for each in found).items())
