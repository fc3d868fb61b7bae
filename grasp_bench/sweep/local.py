"""Cells as processes of this machine, each in a slot of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from types import FrameType

from rich.live import Live

from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.record import BROKEN, DONE
from grasp_bench.errors import UserError
from grasp_bench.processes import CANCELLED, SECONDS_TO_END
from grasp_bench.run.interruption import SIGNALS
from grasp_bench.screen import Sheet
from grasp_bench.sweep.cells import Cell, Sweep
from grasp_bench.sweep.process import last_line, send, start
from grasp_bench.sweep.state import State, counted, recorded
from grasp_bench.sweep.table import clock, sweep_table

POLL_SECONDS = 0.2
PATIENCE = 60.0
"""Seconds that an interrupted cell has before it is killed."""

Slot = dict[str, str]
"""Environment variables of the cell that runs in the slot."""


def make_slots(parallel: int | None, device: str, processes: int = 1) -> list[Slot]:
    """Return ``parallel`` slots, or as many as there are GPUs for, or one; each has its share of the cores and GPUs.

    A slot has a GPU for each of a cell's ``processes``. Raises :class:`UserError` where there are GPUs, and fewer.
    """
    gpus = [] if device == "cpu" else _gpus()
    if gpus and len(gpus) < processes:
        raise UserError(
            f"[options] processes = {processes}: each takes a GPU, and there are {len(gpus)} here. Give fewer, or "
            'device = "cpu".'
        )
    places = [",".join(gpus[start : start + processes]) for start in range(0, len(gpus) - processes + 1, processes)]
    count = parallel or len(places) or 1
    share = len(os.sched_getaffinity(0)) // (count * processes)
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, share))
    return [
        {"OMP_NUM_THREADS": threads} | ({"CUDA_VISIBLE_DEVICES": places[number % len(places)]} if places else {})
        for number in range(count)
    ]


def run_cells(sweep: Sweep, cells: Sequence[Cell], slots: Sequence[Slot], progress: Progress) -> None:
    """Run every cell in the first free slot; a cell waits for one that runs the same training.

    A cell that fails stops no other. Ctrl-C and SIGHUP interrupt what runs, SIGUSR1 and SIGTERM let it write a
    checkpoint; both wait until it has stopped, and raise KeyboardInterrupt. A second one does not wait.
    """
    board = _Board(sweep, len(cells), progress)
    waiting, free, running = list(cells), list(slots), board.running
    with counted_signals() as received, board.shown():
        try:
            while (waiting or running) and not received:
                while free and (ready := _next(waiting, running)):
                    waiting.remove(ready)
                    slot = free.pop(0)
                    running.append(_Running(ready, slot, start(ready.arguments, ready.log, _environment(ready, slot))))
                    board.say(f"started {ready.plan.title}")
                time.sleep(POLL_SECONDS)
                free += [each.slot for each in board.collect()]
        finally:
            _stop(running, received)
            board.collect(interrupted=True)
    if received:
        raise KeyboardInterrupt


def _environment(cell: Cell, slot: Slot) -> Slot:
    """Return the slot's variables, with no more threads than are usual for the backbone unless the user names some."""
    usual = cell.plan.threads
    if usual is None or os.environ.get("OMP_NUM_THREADS"):
        return slot
    return slot | {"OMP_NUM_THREADS": str(min(usual, int(slot.get("OMP_NUM_THREADS", usual))))}


@contextmanager
def counted_signals() -> Iterator[list[int]]:
    """Put Ctrl-C, SIGUSR1, SIGTERM and SIGHUP into a list: none comes between two lines that belong together.

    A SIGHUP that is ignored already (nohup) stays so.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    numbers = [signal.SIGINT, *SIGNALS]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    former = {number: signal.signal(number, note) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class _Running:
    cell: Cell
    slot: Slot
    process: subprocess.Popen[bytes]
    since: float = field(default_factory=time.monotonic)


class _Board:
    """Tells the user what runs: one line per event and, on a terminal, a live table below them."""

    def __init__(self, sweep: Sweep, total: int, progress: Progress) -> None:
        self.sweep, self.total, self.progress = sweep, total, progress
        self.running: list[_Running] = []
        self.ended: list[State] = []
        self.live: Live | None = None
        self.refreshed = 0.0

    def shown(self) -> AbstractContextManager[object]:
        if not self.progress.console.is_terminal:
            return nullcontext()
        self.live = Live(self._table(), console=self.progress.console, auto_refresh=False, transient=True)
        return self.live

    def say(self, message: str) -> None:
        self.progress.say(message)

    def collect(self, interrupted: bool = False) -> list[_Running]:
        """Return the cells whose process has ended since the last call."""
        over = [each for each in self.running if each.process.poll() is not None]
        for each in over:
            self.running.remove(each)
            state = _outcome(each, interrupted)
            self.ended.append(state)
            note = f": {state.note}" if state.note else ""
            took = clock(time.monotonic() - each.since)
            self.say(f"[{len(self.ended)}/{self.total}] {state.status} after {took}: {each.cell.plan.title}{note}")
        if self.live and (over or time.monotonic() - self.refreshed > 1):
            self.refreshed = time.monotonic()
            self.live.update(self._table(), refresh=True)
        return over

    def _table(self) -> Sheet:
        now = time.monotonic()
        rows = [(each.cell, State("running", round(now - each.since), str(each.cell.log))) for each in self.running]
        left = self.total - len(self.ended) - len(rows)
        counts = f"{counted(self.ended)}, " if self.ended else ""
        return sweep_table(self.sweep, rows, f"{counts}{len(rows)} running, {left} waiting")


def _gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count, named = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


def _next(waiting: Sequence[Cell], running: Sequence[_Running]) -> Cell | None:
    """Return the first cell whose training no running cell carries out, since it would only wait in its slot."""
    busy = {each.cell.training for each in running}
    return next((cell for cell in waiting if cell.training not in busy), None)


def _outcome(ended: _Running, interrupted: bool) -> State:
    """Return how a cell ended, by its record unless the process ended without writing one."""
    code, cell = ended.process.returncode, ended.cell
    found = recorded(cell)
    if interrupted and found.status not in DONE:
        return State("cancelled")
    if code not in (0, CANCELLED) and found.status not in BROKEN:
        said = last_line(cell.log)
        return State("failed", note=f"exit status {code}{f', {said}' if said else ''} (log: {cell.log})")
    return found


def _stop(running: Sequence[_Running], received: Sequence[int]) -> None:
    """Interrupt what runs and wait for it; what takes too long is killed, as is everything at a second Ctrl-C."""
    ends = bool(received) and received[0] in SIGNALS
    for each in running:
        send(each.process, signal.SIGUSR1 if ends else signal.SIGINT)
    asked, deadline = len(received), time.monotonic() + (SECONDS_TO_END if ends else PATIENCE)
    while any(each.process.poll() is None for each in running):
        if len(received) > asked or time.monotonic() > deadline:
            for each in running:
                send(each.process, signal.SIGKILL)
        time.sleep(POLL_SECONDS)
