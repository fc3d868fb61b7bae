"""From a run's record back to what it was made of, and to its trained weights; imports no torch."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from grasp_bench.contracts.record import RECORD_NAME, RunRecord, read_record
from grasp_bench.errors import UserError
from grasp_bench.io import file_digest
from grasp_bench.run.files import WEIGHTS
from grasp_bench.run.pipeline import stage_inputs
from grasp_bench.run.plan import Plan, plan_of_spec
from grasp_bench.run.seal import stage_key
from grasp_bench.run.store import Store


def find_record(run: Path) -> tuple[Path, RunRecord]:
    """Return the path and the content of a run's record, from its folder or its ``record.json``.

    Raises :class:`UserError` if there is none.
    """
    path = run / RECORD_NAME if run.is_dir() else run
    if not path.exists():
        raise UserError(
            f"{path}: there is no such record. Name a run's folder, such as results/digits-lt/grasp/seed-0, or its "
            f"{RECORD_NAME}."
        )
    return path, read_record(path)


def finished_record(run: Path, or_open: bool = False) -> tuple[Path, RunRecord]:
    """Return the path and the content of a finished run's record.

    Raises :class:`UserError` if there is none and, except with ``or_open``, where it is of the open division.
    """
    path, record = find_record(run)
    if record.status != "finished":
        reason = f" ({record.reason!r})" if record.reason else ""
        raise UserError(
            f"{path}: this run is {record.status}{reason}, so it has neither weights nor scores. Finish it first."
        )
    if record.division == "open" and not or_open:
        raise UserError(
            f"{path}: this run is of the open division: its images came from elsewhere, so there is no model here that "
            "made them, and nothing to rerun."
        )
    return path, record


def plan_of(
    record: RunRecord, task: Path | None = None, backbone: str | None = None, data_root: Path | None = None
) -> Plan:
    """Return the plan of a recorded run; see :func:`plan_of_spec` for the arguments.

    Raises :class:`UserError` that names the part that is not what it was.
    """
    found = replace(plan_of_spec(record.spec, task, backbone, data_root), metrics=record.metrics or None)
    _check_same(found, record)
    return found


def trained_weights(plan: Plan, record: RunRecord, work_dir: Path) -> Path:
    """Return the file of a run's trained weights in the work folder.

    Raises :class:`UserError` with the command that trains them again where they are gone, or not what was scored.
    """
    path = Store(work_dir, print).folder("train", stage_inputs(plan)["train"]) / WEIGHTS
    if not path.is_file():
        raise UserError(
            f"{path}: the trained weights are not there any more. This trains them again, with a record of their own "
            f"to name instead: {command(plan, work_dir)}"
        )
    if file_digest(path) != record.weights:
        raise UserError(
            f"{path}: not the weights that the record tells of: they are damaged, or were trained elsewhere. Name "
            f"the record that was written with them, or remove {path.parent} and make both: {command(plan, work_dir)}"
        )
    return path


def command(plan: Plan, work_dir: Path) -> str:
    """Return the command line that carries out a run again, with its results in a folder of their own."""
    return shlex.join([*plan.command(), "--work-dir", str(work_dir), "--results", "results-again"])


def _check_same(plan: Plan, record: RunRecord) -> None:
    """Raise :class:`UserError` where the plan is not that of the record's run, or is trained in another way."""
    here, there = plan.spec.task, record.spec.task
    if here.version != there.version:
        raise UserError(f"task {here.name} is of version {here.version} here, the run was made with {there.version}.")
    keys = [*here.settings, *(key for key in there.settings if key not in here.settings)]
    if odd := [key for key in keys if here.settings.get(key) != there.settings.get(key)]:
        values = [repr(each[odd[0]]) if odd[0] in each else "its default" for each in (here.settings, there.settings)]
        raise UserError(
            f"task {here.name}: {odd[0]} is {values[0]} here, but the run was made with {values[1]}. Restore what it "
            "was, in the task's file if it has one, or run it again."
        )
    if plan.spec.id != record.run_id:
        raise UserError(f"the run {record.run_id[:12]} was specified by another version of grasp-bench. Run it again.")
    if not plan.entry and stage_key("train", stage_inputs(plan)["train"]) != record.stages.get("train"):
        raise UserError(
            "the run was trained by another version of grasp-bench: its stage train is not the one of this version. "
            "Run it again."
        )
