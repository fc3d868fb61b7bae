"""One run from specification to record: its stages in order, and whatever may go wrong on the way."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from grasp_bench.errors import Skip, UserError
from grasp_bench.harness.plan import Plan
from grasp_bench.harness.progress import Reporter
from grasp_bench.io import write_bytes
from grasp_bench.record import RECORD_NAME, Environment, RunRecord, Status, move_aside, read_record, write_record

if TYPE_CHECKING:
    from grasp_bench.harness.pipeline import Outcome


@dataclass(frozen=True)
class Options:
    """How a run is carried out; none of it changes a score, so none of it is part of the specification."""

    results: Path
    work_dir: Path
    device: str = "auto"
    batch_size: int = 100
    """Images generated at a time."""
    log_every: int = 50
    """Steps between rows of the training log, each with a checkpoint."""
    gradient_checkpointing: bool = False


def run(plan: Plan, options: Options, report: Reporter) -> tuple[Path, RunRecord]:
    """Carry out ``plan`` as far as it is not done yet; the path of its record and the record.

    A record is written whatever happens: "failed", "oom" and "cancelled" ones say why, and the exception goes on to
    the caller. A finished run is not started again unless one of its stages is stale.
    """
    folder = options.results / plan.task_label / plan.label / f"seed-{plan.spec.seed}"
    path = folder / RECORD_NAME
    known = _known(path, plan, report)
    if known is not None:
        return path, known

    from grasp_bench.harness.environment import describe, pick_device

    device = pick_device(options.device)
    _check_writable(folder)
    writer = _Writer(plan, folder, describe(device), report)
    try:
        from grasp_bench.harness.pipeline import Pipeline

        outcome = Pipeline(plan, options, device, report).outcome()
        if not isinstance(outcome, Skip):
            for file in outcome.files:
                write_bytes(folder / file.name, file.read_bytes())
    except KeyboardInterrupt:
        writer.write_failure("cancelled", "interrupted; the same command goes on from here")
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        if plan.trained_on.task.private or plan.task.private:
            reason = f"{type(error).__name__}; what it said may name patients' data, and is not kept"
        writer.write_failure("oom" if _is_out_of_memory(error) else "failed", reason)
        raise
    if isinstance(outcome, Skip):
        return path, writer.write("skipped", outcome.reason)
    return path, writer.write("finished", None, outcome)


def _known(path: Path, plan: Plan, report: Reporter) -> RunRecord | None:
    """The record of this very run, when it is finished and nothing in it is stale."""
    if not path.exists():
        return None
    try:
        record = read_record(path)
    except UserError as error:
        report.say(f"{error} It was moved to {move_aside(path).name}.")
        return None
    same = record.run_id == plan.spec.id and record.stages == plan.stage_keys()
    whole = all((path.parent / name).exists() for name in record.files)
    return record if same and whole and record.status == "finished" else None


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"{folder}: results cannot be written there ({error.strerror}); choose another folder with --results."
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    import torch

    allocation = "not enough memory" in str(error) or "can't allocate memory" in str(error)
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or allocation


class _Writer:
    """Writes the record of one run, whatever became of it."""

    def __init__(self, plan: Plan, folder: Path, environment: Environment, report: Reporter) -> None:
        self.plan, self.folder, self.environment, self.report = plan, folder, environment, report
        self.started = _now()

    def write(self, status: Status, reason: str | None, outcome: Outcome | None = None) -> RunRecord:
        record = RunRecord(
            run_id=self.plan.spec.id,
            spec=self.plan.spec,
            task_label=self.plan.task_label,
            label=self.plan.label,
            status=status,
            reason=reason,
            started=self.started,
            finished=_now(),
            environment=self.environment,
            protocol=self.plan.protocol(),
            stages=self.plan.stage_keys(),
            **(outcome.fields() if outcome else {}),
        )
        write_record(self.folder, record)
        return record

    def write_failure(self, status: Status, reason: str) -> None:
        """A record of what went wrong, unless a finished one would be lost or the disk takes nothing more."""
        path = self.folder / RECORD_NAME
        try:
            if path.exists() and read_record(path).status == "finished":
                self.report.say(f"{path} of the last finished run is kept; this one was {status}: {reason}")
            else:
                self.write(status, reason)
        except UserError as error:
            self.report.say(f"this run was {status}, and no record of it could be kept: {error}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
