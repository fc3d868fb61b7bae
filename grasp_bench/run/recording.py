"""Writing the record of a run, and telling whether one that is there still stands."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.record import RECORD_NAME, Environment, RunRecord, Status, read_record, write_record
from grasp_bench.errors import Skip, UserError
from grasp_bench.io import move_aside, write_bytes
from grasp_bench.run.pipeline import Outcome, protocol, stage_keys
from grasp_bench.run.plan import Plan


def known_record(path: Path, plan: Plan, progress: Progress) -> RunRecord | None:
    """Return the record of this very run if it is finished and not stale; a damaged one is moved aside."""
    if not path.exists():
        return None
    try:
        record = read_record(path)
    except UserError as error:
        progress.say(f"{error} It was moved to {move_aside(path).name}.")
        return None
    return record if is_current(record, plan, path.parent) and record.status == "finished" else None


def is_current(record: RunRecord, plan: Plan, folder: Path) -> bool:
    """Return whether a record in ``folder`` is of this very run, nothing in it is stale, and its files are there."""
    same = record.run_id == plan.spec.id and record.stages == stage_keys(plan)
    return same and all((folder / name).exists() for name in record.files)


def check_writable(folder: Path) -> None:
    """Raise :class:`UserError` where a folder of results cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"{folder}: results cannot be written there ({error.strerror}); choose another folder with --results."
        ) from error


class RecordWriter:
    """Writes the record of one attempt at a run, whatever becomes of it."""

    def __init__(self, plan: Plan, folder: Path, environment: Environment, progress: Progress, started: str) -> None:
        self.plan, self.folder, self.environment, self.progress = plan, folder, environment, progress
        self.started = started

    def keep(self, outcome: Outcome | Skip) -> None:
        """Write what a run gave into the results: its files, then its record."""
        if isinstance(outcome, Skip):
            self._write("skipped", outcome.reason)
            return
        for file in outcome.files:
            write_bytes(self.folder / file.name, file.read_bytes())
        self._write("finished", None, outcome)

    def _write(self, status: Status, reason: str | None, outcome: Outcome | None = None) -> None:
        record = RunRecord(
            run_id=self.plan.spec.id,
            spec=self.plan.spec,
            task_label=self.plan.task_label,
            label=self.plan.label,
            changed=self.plan.changed,
            backbone_label=self.plan.backbone.label,
            default_backbone=self.plan.default_backbone,
            default_guidance=self.plan.default_guidance,
            tuned=self.plan.tuned,
            status=status,
            reason=reason,
            started=self.started,
            finished=now(),
            environment=self.environment,
            protocol=protocol(self.plan),
            stages=stage_keys(self.plan),
            files=[file.name for file in outcome.files] if outcome else [],
            **(outcome.fields if outcome else {}),
        )
        write_record(self.folder, record)

    def is_told(self) -> bool:
        """Return whether another process of this very attempt has recorded its failure."""
        path = self.folder / RECORD_NAME
        return path.exists() and read_record(path).started == self.started

    def write_failure(self, status: Status, reason: str) -> None:
        """Record what went wrong, unless a finished record would be lost or the disk is full."""
        path = self.folder / RECORD_NAME
        try:
            if path.exists() and read_record(path).status == "finished":
                self.progress.say(f"{path} of the last finished run is kept; this one was {status}: {reason}")
            else:
                self._write(status, reason)
        except UserError as error:
            self.progress.say(f"this run was {status}, and no record of it could be kept: {error}")


def now() -> str:
    """Return the time, in UTC and ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
