"""Cells as jobs of a SLURM cluster, through submitit.

submitit passes what a job calls, and what it returned, in pickles of its own under the sweep's folder; both ends are
the user's. Nothing else is pickled.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from grasp_bench.errors import UserError
from grasp_bench.io import check_file, write_json
from grasp_bench.locks import held
from grasp_bench.processes import CANCELLED
from grasp_bench.sweep.cells import Cell, Sweep, by_training
from grasp_bench.sweep.process import send, start
from grasp_bench.sweep.state import Job, recorded

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

JOBS = "jobs.json"
SIGNAL_DELAY = 90
"""Seconds between a job's signal and its end, unless the user's file says otherwise; submitit's own default."""
OF_THE_EXECUTOR = ("slurm_max_num_timeout", "slurm_max_pickle_size_gb", "slurm_python")
"""Parameters that submitit takes when the executor is made; all others go to its `update_parameters`."""
POLL_SECONDS = 0.2


@dataclass
class Runs:
    """What a job does: runs that share a training, one after the other; interrupted, the same job goes on with them.

    submitit calls :meth:`checkpoint` from a signal handler when the job's time is nearly over or its place is wanted.
    """

    cells: list[tuple[tuple[str, ...], Path]]
    """Arguments and log of each run that is still to do."""
    folder: Path
    """Folder in which the commands run."""
    patience: float
    """Seconds that a run has to end after it was asked to."""
    failed: list[str] = field(default_factory=list)
    """Logs of the runs that failed."""
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __call__(self) -> None:
        """Raises RuntimeError naming the logs of runs that failed, once all have been tried: the job fails then."""
        while self.cells:
            arguments, log = self.cells[0]
            if self._run(arguments, log) != 0:
                self.failed.append(str(log))
            self.cells.pop(0)
        if self.failed:
            raise RuntimeError(f"failed runs; see {', '.join(self.failed)}")

    def checkpoint(self) -> DelayedSubmission:
        """Let the run end, with a checkpoint and its record, and return what the job does when it starts again."""
        from submitit.helpers import DelayedSubmission

        if self.process:
            self._interrupt(self.process)
        return DelayedSubmission(Runs(self.cells, self.folder, self.patience, self.failed))

    def _run(self, arguments: Sequence[str], log: Path) -> int:
        # SLURM sends a job's signal to all of its processes. A run answers SIGUSR1 alone, and once it can: it would
        # die of the other one, and of either before that.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGUSR2])
        try:
            self.process = start(arguments, log, {}, self.folder)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        while (code := self.process.poll()) is None:
            time.sleep(POLL_SECONDS)
        if code in (-signal.SIGTERM, CANCELLED):
            # The job is being taken away. Whether it is to be queued again we are told next: by submitit's handler,
            # which does not return here; a job that is cancelled is killed in this sleep.
            time.sleep(self.patience)
        return code

    def _interrupt(self, process: subprocess.Popen[bytes]) -> None:
        send(process, signal.SIGUSR1)
        deadline = time.monotonic() + self.patience
        while not _ended(process.pid) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        send(process, signal.SIGKILL)


def submit(sweep: Sweep, cells: Sequence[Cell], parallel: int | None) -> dict[str, str]:
    """Submit a job for each group of cells that share a training, and remember their ids; cell's name → job.

    Raises :class:`UserError` where submitit or SLURM is missing, or refuses what the file's [slurm] says.
    """
    try:
        import submitit
        from submitit.core.utils import FailedJobError
    except ImportError as error:
        raise UserError('--launcher slurm needs submitit: pip install "grasp-bench[slurm]".') from error
    settings: dict[str, Any] = {"name": sweep.name, "slurm_signal_delay_s": SIGNAL_DELAY} | sweep.config.slurm
    if parallel:
        settings["slurm_array_parallelism"] = parallel
    own = {name: settings.pop(name) for name in OF_THE_EXECUTOR if name in settings}
    groups = by_training(cells)
    try:
        patience = float(settings["slurm_signal_delay_s"]) / 2  # the other half is for the record and the queue
        executor = submitit.AutoExecutor(sweep.folder.absolute() / "slurm", "slurm", **own)
        executor.update_parameters(**settings)
        with executor.batch():
            jobs = [executor.submit(_runs(group, patience)) for group in groups]
    except FailedJobError as error:
        raise UserError(f"{sweep.path}: sbatch refused the jobs: {error}") from error
    except (AssertionError, NameError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{sweep.path}: slurm: submitit cannot use these settings: {error}") from error
    ids = {cell.name: job.job_id for group, job in zip(groups, jobs, strict=True) for cell in group}
    with held(sweep.folder / "jobs.lock"):
        write_json(sweep.folder / JOBS, _remembered(sweep) | ids)
    return ids


def find_jobs(sweep: Sweep) -> dict[str, Job]:
    """Return cell's name → its job; SLURM is asked only where a cell with a job is unfinished.

    Raises :class:`UserError` where it cannot be asked.
    """
    ids = _remembered(sweep)
    wanted = {cell.name: ids[cell.name] for cell in sweep.cells if cell.name in ids}
    if all(recorded(cell).status == "finished" for cell in sweep.cells if cell.name in wanted):
        return {}
    queued = _queue(sweep.folder / JOBS)
    return {name: queued.get(number, Job(number, "over")) for name, number in wanted.items()}


def _runs(group: Sequence[Cell], patience: float) -> Runs:
    return Runs([(cell.arguments, cell.log.absolute()) for cell in group], Path.cwd(), patience)


def _remembered(sweep: Sweep) -> dict[str, str]:
    path = sweep.folder / JOBS
    try:
        found: Any = json.loads(check_file(path).read_text(encoding="utf-8"))
        return {str(name): str(number) for name, number in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Remove it once no job of this sweep is queued.") from error


def _queue(remembered: Path) -> dict[str, Job]:
    """Return the user's jobs that wait or run, by their ids."""
    if not shutil.which("squeue"):
        raise UserError(
            f"{remembered}: this sweep has jobs on a SLURM cluster, and there is no squeue here to ask for them. Give "
            "the command where they were submitted, or remove that file once none is queued."
        )
    command = ["squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i %T %M"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    if asked.returncode:
        raise UserError(f"squeue cannot be asked for this sweep's jobs: {asked.stderr.strip()}. Try again later.")
    jobs = {}
    for line in asked.stdout.splitlines():
        number, state, elapsed = line.split()
        status: Literal["waiting", "running"] = "running" if state in ("RUNNING", "COMPLETING") else "waiting"
        jobs[number] = Job(number, status, _seconds(elapsed) if status == "running" else None)
    return jobs


def _seconds(elapsed: str) -> int | None:
    """Return the seconds of squeue's [[days-]hours:]minutes:seconds; None for any other text."""
    match = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)", elapsed)
    if not match:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _ended(process: int) -> bool:
    """Return whether a child has ended, without Popen, whose lock may be held by what the handler has interrupted."""
    try:
        return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True
