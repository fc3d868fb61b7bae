"""Checkpoints of an unfinished training: progress, trained parameters, their running means, the optimiser's state."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load

from grasp_bench.checked import Tensors, find_checked, load_checked, save_checked
from grasp_bench.io import flattened
from grasp_bench.processes import ALONE, Processes
from grasp_bench.run.training.placement import placed_like, whole

KIND = "step"


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

    def __init__(self, folder: Path, processes: Processes = ALONE) -> None:
        self.folder, self.processes = folder, processes
        self._writer = ThreadPoolExecutor(1)
        self._unfinished: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._writer.shutdown()
        if kind is None:
            self._wait()

    def save(self, history: History, state: State, then: Callable[[], None] = lambda: None) -> None:
        """Copy the state, once the checkpoint before this one is written, and begin to write it.

        One copy is in memory at a time, since that of a large model may be most of what there is. Older checkpoints are
        removed, and ``then`` is called, only when this one is written. Raises what went wrong with the one before:
        :class:`UserError` when the place cannot be written or is full.
        """
        self._wait()
        tensors = _copied(history, state, self.processes)
        if self.processes.is_first:
            self._unfinished = self._writer.submit(_write, self.folder, history.step, tensors, then)

    def _wait(self) -> None:
        if self._unfinished:
            self._unfinished.result()


def _write(folder: Path, step: int, tensors: Tensors, then: Callable[[], None]) -> None:
    written = save_checked(folder, KIND, step, tensors)
    for _, path in find_checked(folder, KIND):
        if path != written:
            path.unlink()
    then()


def _copied(history: History, state: State, processes: Processes) -> Tensors:
    """Everything a checkpoint keeps, on the CPU of the first process; of shards all, so every process has to ask."""
    text = json.dumps(asdict(history)).encode()
    kept: Tensors = {f"parameters/{name}": value for name, value in state.parameters.items()}
    kept |= {f"averages/{name}": value for name, value in state.averages.items()}
    kept |= {f"counters/{name}": value for name, value in state.counters().items()}
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
    tensors = load(newest.read_bytes())
    history = History(**json.loads(bytes(tensors.pop("progress").tolist())))
    _restore(state, tensors)
    say(f"resuming after step {history.step}")
    processes.wait()  # the first one may remove the file before long
    return history


def _newest_sound(folder: Path, say: Callable[[str], None]) -> Path | None:
    checkpoints = (path for _, path in reversed(find_checked(folder, KIND)))
    return next((path for path in checkpoints if load_checked(path, say) is not None), None)


def _restore(state: State, tensors: Tensors) -> None:
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
            counters[name].copy_(value)
        else:
            path, _, name = name.partition("@")
            *parents, entry = path.split("/")
            entries = moments.setdefault(names.index(name), {})
            for parent in parents:
                entries = entries.setdefault(parent, {})
            is_count = value.dtype == torch.int64 and value.ndim == 0
            entries[entry] = value.item() if is_count else placed_like(value, state.parameters[name])
    state.optimizer.load_state_dict(state.optimizer.state_dict() | {"state": moments})
