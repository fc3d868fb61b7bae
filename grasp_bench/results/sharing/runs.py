"""Runs among the results, as the commands that look at finished ones name them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from grasp_bench.contracts.record import RECORD_NAME, RunRecord, read_record
from grasp_bench.data.root import data_root as data_root_of
from grasp_bench.errors import UserError
from grasp_bench.results.load import FoundRun
from grasp_bench.results.text import printable
from grasp_bench.run.pipeline import protocol, stage_keys
from grasp_bench.run.plan import Plan


def read_run(run: Path) -> FoundRun:
    """A run from its folder or its ``record.json``. Raises :class:`UserError` where there is no record."""
    path = run / RECORD_NAME if run.is_dir() else run
    if not path.is_file():
        raise UserError(
            f"{path}: there is no such record. Name a run's folder, such as results/digits-lt/grasp/seed-0, or its "
            f"{RECORD_NAME}."
        )
    return FoundRun(path.parent, read_record(path))


def finished_run(run: Path) -> FoundRun:
    """The same. Raises :class:`UserError` also for a run that has no scores."""
    found = read_run(run)
    if found.record.status != "finished":
        reason = f" ({printable(found.record.reason)})" if found.record.reason else ""
        raise UserError(f"{run}: this run is {found.record.status}{reason}, and has no scores. Finish it first.")
    return found


def with_data(plan: Plan, data_root: Path | None) -> Plan:
    """``plan`` with the folder of its task's download. Raises :class:`UserError` where that is not there."""
    task = plan.task
    if not task.layout or task.root is not None:
        return plan
    return replace(plan, task=type(task)(task.config, data_root_of(plan.spec.task.name, data_root)))


def check_current(run: Path, plan: Plan, record: RunRecord) -> None:
    """Raise :class:`UserError` that names what is of another version here than when ``record`` was made."""
    here = protocol(plan)
    for name in dict.fromkeys([*record.protocol, *here]):
        if here.get(name) != record.protocol.get(name):
            raise UserError(
                f"{run}: {name} is of version {here.get(name, 'none')} here, the run was made with "
                f"{record.protocol.get(name, 'none')}, so its scores mean something else. Install the version of "
                "grasp-bench that made it, or run it again."
            )
    if stale := [stage for stage, key in stage_keys(plan).items() if record.stages.get(stage) != key]:
        raise UserError(
            f"{run}: its stage {stale[0]} is not the one of this version of grasp-bench. Install the version that made "
            "the run, or run it again."
        )
