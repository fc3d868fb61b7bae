"""The device of a run, and the processes that share one run: how they are started, joined and kept in step.

Each makes the same calls in the same order; whatever a launcher that follows torch's convention started (``torchrun``,
``accelerate launch``, or :func:`launch`) is joined by accelerate.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from grasp_bench.bounds import is_count
from grasp_bench.errors import UserError

if TYPE_CHECKING:
    import torch

CANCELLED = 130  # what a shell reports for Ctrl-C
PATIENCE = timedelta(hours=1)  # whatever the first one does alone for longer is waited for by looking at files
POLL_SECONDS = 0.5
TELL_SECONDS = 30
SECONDS_TO_END = 300  # which processes have to write a checkpoint once they are asked to end
DEVICES = re.compile(r"auto|cpu|cuda(:(?P<number>0|[1-9][0-9]*))?")
T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The place of this process among those that share a run."""

    index: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes what is written once."""
        return self.index == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Every ``count``-th item, from this process's index on."""
        return items[self.index :: self.count]

    def rows(self, total: int) -> slice:
        """The part of this process of ``total`` rows, which must divide evenly."""
        each = total // self.count
        return slice(self.index * each, (self.index + 1) * each)

    def wait(self) -> None:
        """Until every process is here."""
        if self.count > 1:
            import torch.distributed

            with patient(self.index):
                torch.distributed.barrier()

    def first_says(self, decide: Callable[[], T]) -> T:
        """What ``decide`` returns in the first process, in every process. It must be plain data."""
        if self.count == 1:
            return decide()
        import torch.distributed

        said = [decide() if self.is_first else None]
        with patient(self.index):
            torch.distributed.broadcast_object_list(said)
        return said[0]  # type: ignore[return-value] # what the first process put there

    @contextmanager
    def apart(self, folder: Path) -> Iterator[None]:
        """Let processes work at their own pace inside the block, at whose end each waits for the others.

        They look at files in ``folder`` rather than keep a GPU busy with waiting: one may have hours more to do than
        another. Who works says so by a file that changes as long as its main thread does something. Raises
        :class:`UserError` for one that has not for :data:`PATIENCE`, and names the file that is missing.
        """
        if self.count == 1:
            yield
            return
        token = self.first_says(lambda: uuid.uuid4().hex)  # others may have been left by an attempt that was killed
        done = [folder / f".{token}.{index}.tmp" for index in range(self.count)]
        at_work = [path.with_suffix(".at-work.tmp") for path in done]
        with _telling(at_work[self.index]):
            yield
        done[self.index].touch()
        for index, path in enumerate(done):
            self._wait_for(index, path, at_work[index])
        self.wait()  # before the first one may rename the folder or remove the files

    def _wait_for(self, index: int, done: Path, at_work: Path) -> None:
        """Wait until process ``index`` has left the file ``done``, or has not changed ``at_work`` for too long."""
        last, seen = time.monotonic(), -1.0
        while not done.exists():
            changed = at_work.stat().st_mtime if at_work.exists() else -1.0
            if changed != seen:
                last, seen = time.monotonic(), changed
            if time.monotonic() - last > PATIENCE.total_seconds():
                raise UserError(
                    f"{done} is missing: process {index} has done nothing for {PATIENCE.total_seconds() / 60:g} "
                    f"minutes, which process {self.index} has waited. It hangs, has ended, or writes to another "
                    "folder than this. Its output says which; then repeat the command, which goes on from what is "
                    "finished."
                )
            time.sleep(POLL_SECONDS)


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Touch ``path`` now and then as long as the thread that runs the block spends time on a processor."""
    ended = threading.Event()
    clock = time.process_time  # macOS tells no thread's
    if hasattr(time, "pthread_getcpuclockid"):
        clock = partial(time.clock_gettime, time.pthread_getcpuclockid(threading.get_ident()))

    def touch() -> None:
        spent = -1.0
        while not ended.is_set():
            if (now := clock()) > spent:
                spent = now
                path.touch()
            ended.wait(TELL_SECONDS)

    thread = threading.Thread(target=touch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def patient(index: int) -> Iterator[None]:
    """Turn a timeout inside the block into a :class:`UserError`; NCCL ends the process itself, with a message."""
    try:
        yield
    except RuntimeError as error:
        if not re.search("time(d ?)?-?out", str(error), re.IGNORECASE):
            raise
        minutes = PATIENCE.total_seconds() / 60
        raise UserError(
            f"process {index} has waited {minutes:g} minutes for the others: one of them hangs, has ended, or waits "
            "for another run. Its output says which; then repeat the command, which goes on from what is finished."
        ) from error


ALONE = Processes()


def pick_device(name: str) -> torch.device:
    """``auto`` is the GPU where there is one. Raises UserError when the named device is not there."""
    import torch

    if not (match := DEVICES.fullmatch(name)):
        raise UserError(f"--device {name!r}: expected auto, cpu, cuda or cuda:N.")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    number, count = match["number"] or "0", torch.cuda.device_count() if name != "cpu" else 0
    if name != "cpu" and not (is_count(number) and int(number) < count):
        raise UserError(f"--device {name}: torch sees {count} CUDA devices here; use --device cpu or auto.")
    return torch.device(name)


def join(device: str) -> tuple[Processes, torch.device]:
    """The :class:`Processes` and device of this process, once it has met the others that its launcher started.

    ``device`` is auto, cpu, cuda or cuda:N; of several processes each takes the GPU of its own local number. Raises
    :class:`UserError` where the device is not there.
    """
    picked = pick_device(device)
    if launched() == 1:
        return ALONE, picked
    if ":" in device:
        raise UserError(f"--device {device}: several processes take a GPU each; use --device cuda.")
    import torch
    from accelerate import PartialState

    _end_with_launcher()
    local, there = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if picked.type == "cuda" and local > there:
        raise UserError(f"{local} processes and {there} GPUs: each takes one. Start fewer, or use --device cpu.")
    state = PartialState(cpu=picked.type == "cpu", timeout=PATIENCE)
    return Processes(state.process_index, state.num_processes), state.device


def _end_with_launcher() -> None:
    """Let this process be killed when its launcher is: nobody would tell it to end. Linux has a call for that."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on ``device``; neither the program nor the device waits for the copy of one that is in memory."""
    import torch

    if device.type == "cuda" and tensor.device.type == "cpu":
        with torch.cuda.device(device):  # a thread of its own begins with the first one
            return tensor.pin_memory().to(device, non_blocking=True)  # torch keeps the pinned copy until it was read
    return tensor.to(device)


def launched() -> int:
    """How many processes the launcher started; 1 where there was none."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def own_index() -> int:
    """The number of this process among those; 0 is the first."""
    return int(os.environ.get("RANK", "0"))


def launch(count: int, arguments: Sequence[str], usual_threads: int | None = None) -> int:
    """Run ``grasp-bench`` with ``arguments`` in ``count`` processes here; the exit code of the first one to fail.

    Environment variables that bound threads are kept; unless one is set, each process gets its share of the cores, or
    ``usual_threads`` where that is less.
    What asks a run to end, SIGUSR1 or SIGTERM, asks every process by SIGUSR1, since SIGTERM ends one at once.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    share = max(1, (os.cpu_count() or 1) // count)
    os.environ.setdefault("OMP_NUM_THREADS", str(min(share, usual_threads or share)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",  # any free port
        max_restarts=0,
        monitor_interval=0.1,
        signals_to_handle="SIGUSR1,SIGINT,SIGHUP,SIGQUIT",
        shutdown_timeout=SECONDS_TO_END,
    )
    signal.signal(signal.SIGUSR1, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGUSR1))
    try:
        elastic_launch(config, sys.executable)("-P", "-m", "grasp_bench", *arguments)
    except SignalException:  # passed on to every process
        return CANCELLED
    except ChildFailedError as error:
        return error.get_first_failure()[1].exitcode
    return 0
