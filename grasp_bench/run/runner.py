"""One run from plan to record: its stages in order, and whatever may go wrong on the way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.record import RECORD_NAME, RunRecord, read_record
from grasp_bench.errors import UserError
from grasp_bench.processes import Processes, join, launched
from grasp_bench.run.context import Options
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.plan import Plan
from grasp_bench.run.recording import RecordWriter, check_writable, known_record, now

if TYPE_CHECKING:
    import torch


def check(plan: Plan, options: Options, count: int) -> None:
    """Raise :class:`UserError` for what can be known to go wrong in ``count`` processes before anything is loaded."""
    batch = plan.trained_on.spec.budget.batch_size
    if batch % (count * options.accumulate):
        raise UserError(
            f"a step's {batch} images cannot be shared evenly by {count} processes with --accumulate "
            f"{options.accumulate}: their product must divide {batch}."
        )
    if options.shard and count == 1:
        raise UserError("--shard shares weights between processes, and there is one: add --processes, or leave it out.")
    from grasp_bench.run.training.trackers import check_trackers

    check_trackers(options.trackers)
    if plan.spec.budget.optimizer == "adamw-8bit":
        from grasp_bench.run.training.optimizer import eight_bit_adamw

        eight_bit_adamw()


def run(plan: Plan, options: Options, progress: Progress) -> tuple[Path, RunRecord]:
    """Carry out ``plan`` as far as it is not done yet, and return the path of its record and the record.

    A record is written whatever happens: those of status "failed", "oom" and "cancelled" say why, and the exception
    goes on to the caller. A finished run is not started again unless one of its stages is stale.
    """
    path = options.results / plan.folder / RECORD_NAME
    if launched() == 1 and (known := known_record(path, plan, progress)):
        return path, known  # before torch is imported
    processes, device = join(options.device)
    check(plan, options, processes.count)
    if not processes.first_says(lambda: known_record(path, plan, progress) is not None):
        _carry_out(plan, options, progress, processes, device)
    return path, read_record(path)


def _carry_out(plan: Plan, options: Options, progress: Progress, processes: Processes, device: torch.device) -> None:
    from grasp_bench.run.environment import describe

    folder = options.results / plan.folder
    if processes.is_first:
        check_writable(folder)
    environment = describe(device, processes.count, options.accumulate)
    writer = RecordWriter(plan, folder, environment, progress, processes.first_says(now))
    try:
        outcome = Pipeline(plan, options, device, progress, processes).outcome()
        if processes.is_first:
            writer.keep(outcome)
        processes.wait()
    except KeyboardInterrupt:
        if processes.is_first:
            writer.write_failure("cancelled", "interrupted; the same command goes on from here")
        raise
    except Exception as error:
        if not processes.is_first and writer.is_told():
            raise SystemExit(1) from error  # what ended this process is that another one failed, and that said why
        _record_failure(error, writer, options, device)
        raise


def _record_failure(error: Exception, writer: RecordWriter, options: Options, device: torch.device) -> None:
    reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    if writer.plan.private:
        reason = f"{type(error).__name__}; what it said may name patients' data, and is not kept"
    if not _is_out_of_memory(error):
        writer.write_failure("failed", reason)
        return
    advice = _advice(writer.plan, options, device)
    writer.progress.say(advice)
    writer.write_failure("oom", f"{reason}. {advice}")


def _advice(plan: Plan, options: Options, device: torch.device) -> str:
    """Return what to try when memory ran out; none of it makes the batch of a training step smaller."""
    from grasp_bench.run.environment import peak_mib

    budget = plan.trained_on.spec.budget
    more = next((n for n in range(options.accumulate + 1, budget.batch_size + 1) if budget.batch_size % n == 0), None)
    ways = {
        "--gradient-checkpointing": not options.gradient_checkpointing,
        f"--accumulate {more}, which works on a step's images in parts": more is not None,
        "--task-set precision=bfloat16, which makes a table of its own": budget.precision == "float32",
        f"--batch-size {options.batch_size // 2}, if images were being generated": options.batch_size > 1,
        "--processes N --shard, where there are several GPUs": not options.shard,
    }
    useful = "; ".join(way for way, applies in ways.items() if applies)
    return f"Memory ran out after a peak of {peak_mib(device):.0f} MiB. Try {useful}."


def _is_out_of_memory(error: Exception) -> bool:
    import torch

    allocation = "not enough memory" in str(error) or "can't allocate memory" in str(error)
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or allocation
