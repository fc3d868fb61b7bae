"""One run from plan to record: its stages in order, whatever may go wrong on the way, and the record of either."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from grasp_bench.bounds import MOST_THREADS
from grasp_bench.contracts.entry import Entered
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.record import PRIVATE, RECORD_NAME, Environment, RunRecord, Status, read_record, write_record
from grasp_bench.errors import AccessError, Skip, UserError
from grasp_bench.io import move_aside, write_bytes
from grasp_bench.locks import publishing
from grasp_bench.memory import is_out_of_memory
from grasp_bench.processes import Processes, join, launched
from grasp_bench.run.interruption import Ended
from grasp_bench.run.options import Options
from grasp_bench.run.pipeline import Outcome, Pipeline, protocol, stage_keys
from grasp_bench.run.plan import Plan
from grasp_bench.run.recipes import rate_warning
from grasp_bench.run.resolve import caution
from grasp_bench.run.sharing import check_sharing
from grasp_bench.run.threads import threads_taken
from grasp_bench.temporary import temporary_name

if TYPE_CHECKING:
    import torch


def check(plan: Plan, options: Options, count: int) -> None:
    """Raise :class:`UserError` for what can be known to go wrong in ``count`` processes before anything is loaded."""
    check_sharing(plan, options.accumulate, options.shard, count)
    if options.threads is not None and not 1 <= options.threads <= MOST_THREADS:
        raise UserError(f"threads {options.threads}: expected at least 1 and at most {MOST_THREADS}, or leave it out.")
    if (nodes := launched() // int(os.environ.get("LOCAL_WORLD_SIZE", launched()))) > 1:
        _check_shared(options, nodes)
    from grasp_bench.run.training.trackers import check_trackers

    check_trackers(options.trackers)
    if plan.spec.budget.optimizer == "adamw-8bit":
        from grasp_bench.run.training.optimizer import eight_bit_adamw

        eight_bit_adamw()


def _check_shared(options: Options, nodes: int) -> None:
    """Raise :class:`UserError` where ``nodes`` machines are to share a folder that only one of them sees."""
    if options.cache_dir:
        raise UserError(
            f"--cache-dir {options.cache_dir}: processes on {nodes} machines share the caches of a run, and one "
            "machine's disk is not the others'. Leave it out: caches then lie in --work-dir, which all machines see."
        )
    if options.sync_to:
        raise UserError(
            f"--sync-to {options.sync_to}: it is for a --work-dir on the disk of one machine, and there are {nodes}. "
            "Leave it out, with a --work-dir that all machines see."
        )


def run(
    plan: Plan, options: Options, progress: Progress, before: Callable[[torch.device], None] | None = None
) -> tuple[Path, RunRecord]:
    """Carry out ``plan`` as far as it is not done yet, and return the path of its record and the record.

    ``before`` is called by the first process if there is anything to do, with the device that it is done on.

    A record is written whatever happens: those of status "failed", "oom" and "cancelled" say why, and the exception
    goes on to the caller. A finished run is not started again unless one of its stages is stale.
    """
    path = options.results / plan.folder / RECORD_NAME
    if launched() == 1 and (known := _known_record(path, plan, progress)):
        return path, known  # before torch is imported
    processes, device = join(options.device)
    check(plan, options, processes.count)
    if not processes.first_says(lambda: _known_record(path, plan, progress) is not None):
        with threads_taken(options.threads, plan.threads):
            if before and processes.is_first:
                before(device)
            _carry_out(plan, options, progress, processes, device)
    return path, read_record(path)


def _carry_out(plan: Plan, options: Options, progress: Progress, processes: Processes, device: torch.device) -> None:
    from grasp_bench.downstream.networks import check_name
    from grasp_bench.run.environment import describe

    check_name(plan.recipe.network)  # before anything is written
    folder = options.results / plan.folder
    if processes.is_first:
        _check_writable(folder, "--results")
        if not plan.entry and (said := rate_warning(plan.backbone.recipe, plan.method, plan.spec.method.name)):
            progress.say(f"warning: {said}")
        if said := caution(plan.backbone, plan.task):
            progress.say(
                f"warning: task {plan.spec.task.name} asks for backbone {plan.task.backbone}; this is "
                f"{plan.backbone.name}: {said}. Its tables say so, too."
            )
        if said := _classifier(plan):
            progress.say(said)
    environment = describe(device, processes.count, 1 if options.accumulate == "auto" else options.accumulate)
    writer = RecordWriter(plan, folder, environment, progress, processes.first_says(_now))
    try:
        if processes.is_first:
            _check_writable(options.work_dir, "--work-dir")
        outcome = Pipeline(plan, options, device, progress, processes).outcome()
        if processes.is_first:
            writer.keep(outcome)
        processes.wait()
    except KeyboardInterrupt as interrupt:
        if processes.is_first:
            why = f"{interrupt}" if isinstance(interrupt, Ended) else "interrupted"
            writer.write_failure("cancelled", f"{why}; the same command goes on from here")
        if isinstance(interrupt, Ended):
            processes.wait()  # whoever ends early may take the others with it
        raise
    except Exception as error:
        if not processes.is_first and writer.is_told():
            raise SystemExit(1) from error  # what ended this process is that another one failed, and that said why
        _record_failure(error, writer, options, device)
        raise


def _classifier(plan: Plan) -> str | None:
    """Return what downstream classifiers start from, in words; None where there is no choice."""
    from grasp_bench.downstream.networks import TIMM
    from grasp_bench.weights import timm_file

    recipe, tag = plan.recipe, plan.task.network_weights
    if recipe.initial:
        return f"downstream classifiers: {recipe.network} from ImageNet's weights {recipe.initial}"
    if tag is None:
        return None
    path = timm_file(recipe.network.removeprefix(TIMM), tag)
    return f"downstream classifiers: {recipe.network} from scratch{'' if path.is_file() else f'; there is no {path}'}"


def _record_failure(error: Exception, writer: RecordWriter, options: Options, device: torch.device) -> None:
    if writer.plan.entry and isinstance(error, UserError):
        return  # what is wrong with given images is no run that failed
    reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    if writer.plan.private:
        reason = f"{type(error).__name__}; {PRIVATE}"
    if not is_out_of_memory(error):
        writer.write_failure("failed", reason)
        return
    notes = getattr(error, "__notes__", [])  # of work that is never done in parts
    advice = ". ".join(notes) + "." if notes else _advice(writer.plan, options, device)
    writer.progress.say(advice)
    writer.write_failure("oom", f"{reason}. {advice}")


def _advice(plan: Plan, options: Options, device: torch.device) -> str:
    """Return what to try when memory ran out; none of it makes the batch of a training step smaller."""
    from grasp_bench.run.environment import peak_mib
    from grasp_bench.run.training.trial import TRIED_ON

    budget = plan.trained_on.spec.budget
    parts = 1 if options.accumulate == "auto" else options.accumulate
    more = next((n for n in range(parts + 1, budget.batch_size + 1) if budget.batch_size % n == 0), None)
    reason = plan.trained_on.method.needs_whole_batch
    in_parts = "which works on a step's images in parts" + (f" and changes numbers, since {reason}" if reason else "")
    tried = options.accumulate == "auto" and not reason and device.type in TRIED_ON
    ways = {
        "--gradient-checkpointing on": options.gradient_checkpointing is False
        or device.type not in TRIED_ON
        or (options.shard and options.gradient_checkpointing == "auto"),
        f"--accumulate {more}, {in_parts}": more is not None and not tried,
        "--task-set precision=bfloat16, which makes a table of its own": budget.precision == "float32",
        f"--batch-size {options.batch_size // 2}, if images were being generated": options.batch_size > 1,
        "--processes N --shard, where there are several GPUs": not options.shard,
    }
    useful = "; ".join(way for way, applies in ways.items() if applies)
    return f"Memory ran out after a peak of {peak_mib(device):.0f} MiB. Try {useful}."


def _known_record(path: Path, plan: Plan, progress: Progress) -> RunRecord | None:
    """Return the record of this very run if it is finished and not stale; a damaged one is moved aside."""
    if not path.exists():
        return None
    try:
        record = read_record(path)
    except AccessError:  # no damage
        raise
    except UserError as error:
        progress.say(f"{error} It was moved to {move_aside(path).name}.")
        return None
    return record if is_current(record, plan, path.parent, pictures=True) and record.status == "finished" else None


def is_current(record: RunRecord, plan: Plan, folder: Path, *, pictures: bool) -> bool:
    """Return whether a record in ``folder`` is of this very run, nothing in it is stale, and its files are there.

    Without ``pictures`` those may be absent: a repository may leave them out, and no score is computed from one.
    """
    same = record.run_id == plan.spec.id and record.stages == stage_keys(plan)
    if plan.entry and record.entry and record.entry.declared != plan.entry.declared:
        return False  # what is declared decides no stage
    return same and all((folder / name).exists() for name in record.files if pictures or not name.endswith(".png"))


def check_free(plan: Plan, results: Path) -> None:
    """Raise :class:`UserError` where other images were recorded under the same name, which would be overwritten.

    It is asked before anything is computed, and again under the lock of the results before a record is written.
    """
    path = results / plan.folder / RECORD_NAME
    if not path.is_file():
        return
    record = read_record(path)
    if record.status == "finished" and record.spec.method != plan.spec.method:
        raise UserError(
            f"{path}: is the record of other images of the name {plan.spec.method.name}. Choose another --name or "
            f"--seed, or remove {path.parent}."
        )


def _check_writable(folder: Path, option: str) -> None:
    """Raise :class:`UserError` where the folder that ``option`` names cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = temporary_name(folder / "writable")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written there ({error.strerror}); choose another folder with {option}."
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
        self.environment = self.environment.model_copy(update=outcome.worked_on)
        with self._publishing():
            if self.plan.entry:  # another process may have published other images of this name meanwhile
                check_free(self.plan, self._results)
            for file in outcome.files:
                write_bytes(self.folder / file.name, file.read_bytes())
            self._write("finished", None, outcome)

    def _publishing(self) -> AbstractContextManager[None]:
        return publishing(self._results)

    @property
    def _results(self) -> Path:
        return self.folder.parents[len(self.plan.folder.parts) - 1]

    def _write(self, status: Status, reason: str | None, outcome: Outcome | None = None) -> None:
        record = RunRecord(
            run_id=self.plan.spec.id,
            spec=self.plan.spec,
            task_label=self.plan.task_label,
            label=self.plan.label,
            changed=self.plan.changed,
            backbone_label=self.plan.backbone.name,
            recipe=self.plan.backbone.recipe.name or None,
            division=self.plan.spec.division,
            sampling=None if self.plan.entry else self.plan.method.config.sampling,
            default_backbone=self.plan.default_backbone,
            caution=caution(self.plan.backbone, self.plan.task),
            default_guidance=self.plan.default_guidance,
            tuned=self.plan.tuned,
            status=status,
            reason=reason,
            started=self.started,
            finished=_now(),
            environment=self.environment,
            protocol=protocol(self.plan),
            stages=stage_keys(self.plan),
            files=[file.name for file in outcome.files] if outcome else [],
            **self._entry() | (outcome.fields if outcome else {}),
        )
        write_record(self.folder, record)

    def _entry(self) -> dict[str, Entered]:
        return {"entry": Entered(declared=self.plan.entry.declared)} if self.plan.entry else {}

    def is_told(self) -> bool:
        """Return whether another process of this very attempt has recorded its failure."""
        path = self.folder / RECORD_NAME
        return path.exists() and read_record(path).started == self.started

    def write_failure(self, status: Status, reason: str) -> None:
        """Record what went wrong, unless a finished record would be lost or the disk is full."""
        path = self.folder / RECORD_NAME
        try:
            with self._publishing():
                kept = path.exists() and read_record(path).status == "finished"
                if not kept:
                    self._write(status, reason)
            if kept:
                self.progress.say(f"{path} of the last finished run is kept; this one was {status}: {reason}")
        except UserError as error:
            self.progress.say(f"this run was {status}, and no record of it could be kept: {error}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
