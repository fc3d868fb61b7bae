"""Checkpoints of an unfinished training: progress, trained parameters, their running means, the optimiser's state.

They are written by the clock, at whatever step a training then is, and at its end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch

from grasp_bench.checked import Tensors, find_checked, load_checked, save_checked
from grasp_bench.contracts.spec import Optimizer
from grasp_bench.errors import UserError
from grasp_bench.exchange import total
from grasp_bench.io import flattened, read_tensors, remove
from grasp_bench.places import free_bytes
from grasp_bench.processes import ALONE, Processes
from grasp_bench.run.training.placement import placed_like, whole

KIND = "step"
KEPT = 2
AGREE_AFTER = 5.0  # seconds after which several processes agree on whether the time has come
MOST_STEPS = 50  # until they do, however quick these are
TOLD_FROM = 2**30  # bytes of a checkpoint from which on its size is told


@dataclass
class History:
    """What a training has gone through so far."""

    step: int = 0
    streams: str = ""
    """sha256 over what every step saw."""
    seconds: float = 0.0
    peak_memory_mib: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    """The training log."""


@dataclass(frozen=True)
class State:
    """What a training changes."""

    parameters: dict[str, torch.nn.Parameter]
    averages: Tensors
    """Running means of the parameters; empty when they are off."""
    optimizer: torch.optim.Optimizer
    counters: Callable[[], Tensors] = dict
    """What was counted since the last row of the log."""


class Checkpoints:
    """Writes a training's checkpoints while the training goes on; leaving the context waits for the last one.

    All processes of a training use it alike; the first one writes.
    """

    def __init__(
        self,
        folder: Path,
        processes: Processes = ALONE,
        minutes: float = 10,
        must_end: Callable[[], bool] = lambda: False,
        written: Callable[[], None] = lambda: None,
    ) -> None:
        """``minutes`` lie between two checkpoints; with 0 there is one with every row of the log.

        ``must_end`` says whether the training is to end after one more; ``written`` is called after each.
        """
        self.folder, self.processes, self.seconds = folder, processes, 60 * minutes
        self.must_end, self.written = must_end, written
        self.ends = False
        """Whether the training has to end after the checkpoint that is due."""
        self._begun = time.monotonic()
        self._agreed_at, self._agreed_step, self._next = self._begun, 0, 0
        self._writer = ThreadPoolExecutor(1)
        self._unfinished: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._writer.shutdown()
        if kind is None:
            self._wait()

    def are_due(self, step: int, with_row: bool, last: bool) -> bool:
        """Return whether a checkpoint is to be saved after ``step`` steps, of which the log may have a row.

        Several processes agree on it, all together, after some steps only.
        """
        if last:
            return True
        by_clock = False
        if self.processes.count == 1 or step >= self._next:
            self.ends, by_clock, self._next = self.processes.first_says(lambda: self._decide(step))
        return self.ends or (with_row if self.seconds == 0 else by_clock)

    def _decide(self, step: int) -> tuple[bool, bool, int]:
        """Return whether to end, whether the time has come, and the step after which to decide again."""
        now = time.monotonic()
        pace = (now - self._agreed_at) / max(1, step - self._agreed_step)
        self._agreed_at, self._agreed_step = now, step
        ahead = MOST_STEPS if pace * MOST_STEPS <= AGREE_AFTER else max(1, int(AGREE_AFTER / pace))
        return self.must_end(), now - self._begun >= self.seconds, step + ahead

    def save(self, history: History, state: State) -> None:
        """Copy the state, once the checkpoint before this one is written, and begin to write it.

        One copy is in memory at a time, since that of a large model may be most of what there is. All but the newest
        are removed before this one is written, so that there are never more than two. Raises what went wrong with the
        one before: :class:`UserError` when the place cannot be written or is full.
        """
        self._begun = time.monotonic()
        self._wait()
        tensors = _copied(history, state, self.processes)
        if self.processes.is_first:
            self._unfinished = self._writer.submit(self._write, history.step, tensors)

    def finish(self) -> None:
        """Return once the last checkpoint is written, in every process."""
        self._wait()
        self.processes.wait()

    def _wait(self) -> None:
        if self._unfinished:
            self._unfinished.result()

    def _write(self, step: int, tensors: Tensors) -> None:
        for _, path in find_checked(self.folder, KIND)[: 1 - KEPT]:
            remove(path)
        save_checked(self.folder, KIND, step, tensors)
        self.written()


def check_space(
    folder: Path,
    state: State,
    optimizer: Optimizer,
    say: Callable[[str], None],
    minutes: float,
    copy: Path | None = None,
) -> None:
    """Tell how large a checkpoint will be, if it is large, and raise :class:`UserError` where not all have room.

    ``copy`` is the folder's copy in a second place, where a new checkpoint is whole before an older one goes.
    """
    weights = sum(each.nbytes for each in state.parameters.values())
    moments = sum(2 * each.numel() * (1 if optimizer == "adamw-8bit" else 4) for each in state.parameters.values())
    size = weights + moments + sum(each.nbytes for each in state.averages.values())
    places = [(folder, KEPT * size + weights, "--work-dir")]
    places += [(copy, (KEPT + 1) * size, "--sync-to")] if copy else []
    for place, most, option in places:
        there = sum(path.stat().st_size for _, path in find_checked(place, KIND)) if place.is_dir() else 0
        if (free := free_bytes(place)) < (needed := most - there):
            raise UserError(
                f"{place}: {_gib(free)} are free, and the training needs {_gib(needed)} there: checkpoints of "
                f"{_gib(size)} each, of which {KEPT} are kept, and weights of {_gib(weights)}. Free some space, or "
                f"choose another {option}."
            )
    if size >= TOLD_FROM:
        often = f"every {minutes:g} minutes" if minutes else "with every row of the log"
        say(f"checkpoints of {_gib(size)} are written {often} and at the end; {KEPT} are kept")


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _copied(history: History, state: State, processes: Processes) -> Tensors:
    """Everything a checkpoint keeps, on the CPU of the first process; of shards all, so every process has to ask.

    Counters are those of all processes together, which the first one has when the training goes on.
    """
    text = json.dumps(asdict(history)).encode()
    kept: Tensors = {f"parameters/{name}": value for name, value in state.parameters.items()}
    kept |= {f"averages/{name}": value for name, value in state.averages.items()}
    kept |= {f"counters/{name}": total(value) for name, value in state.counters().items()}
    names = list(state.parameters)
    for index, entries in state.optimizer.state_dict()["state"].items():
        kept |= {f"optimizer/{path}@{names[index]}": value for path, value in _tensors(entries)}
    tensors: Tensors = {}
    for name, value in kept.items():
        gathered = whole(value)
        if processes.is_first:
            tensors[name] = gathered.to("cpu", copy=True)
    return tensors | {"progress": torch.frombuffer(bytearray(text), dtype=torch.uint8)}


def _tensors(entries: dict[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """(path, tensor) of an optimizer's state; bitsandbytes nests dictionaries and counts steps in plain int."""
    for path, value in flattened(entries, "/").items():
        yield path, torch.tensor(value) if isinstance(value, int) else value


def restore_checkpoint(folder: Path, state: State, say: Callable[[str], None], processes: Processes = ALONE) -> History:
    """Bring ``state`` to the newest sound checkpoint, if there is one; a damaged one is named and moved aside."""
    newest = processes.first_says(lambda: _newest_sound(folder, say))
    if newest is None:
        return History()
    tensors = read_tensors(newest)  # mapped: what is read was just checked, and is not read twice from a slow disk
    history = History(**json.loads(tensors.pop("progress").numpy().tobytes()))
    _restore(state, tensors, processes.is_first)
    say(f"resuming after step {history.step}")
    processes.wait()  # the first one may remove the file before long
    return history


def _newest_sound(folder: Path, say: Callable[[str], None]) -> Path | None:
    checkpoints = (path for _, path in reversed(find_checked(folder, KIND)))
    return next((path for path in checkpoints if load_checked(path, say) is not None), None)


def _owned(moment: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """Return a moment of ``parameter`` that does not lie in the file."""
    placed = placed_like(moment, parameter)
    return placed.clone() if parameter.device.type == "cpu" or placed.ndim == 0 else placed


def _restore(state: State, tensors: Tensors, is_first: bool) -> None:
    names, counters = list(state.parameters), state.counters()
    moments: dict[int, dict[str, Any]] = {}  # a parameter without entries has not been stepped yet
    for key, value in tensors.items():
        part, _, name = key.partition("/")
        if part == "parameters":
            parameter = state.parameters[name]
            parameter.data.copy_(placed_like(value, parameter))
        elif part == "averages":
            state.averages[name].copy_(placed_like(value, state.averages[name]))
        elif part == "counters":
            counters[name].copy_(value if is_first else torch.zeros_like(value))
        else:
            path, _, name = name.partition("@")
            *parents, entry = path.split("/")
            entries = moments.setdefault(names.index(name), {})
            for parent in parents:
                entries = entries.setdefault(parent, {})
            is_count = value.dtype == torch.int64 and value.ndim == 0
            entries[entry] = value.item() if is_count else _owned(value, state.parameters[name])
    state.optimizer.load_state_dict(state.optimizer.state_dict() | {"state": moments})
