"""Checkpoints of an unfinished training: progress, trained parameters, their running means, the optimiser's state."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load

from grasp_bench.checked import Tensors, find_checked, load_checked, save_checked
from grasp_bench.harness.placement import placed_like, whole
from grasp_bench.processes import ALONE, Processes

KIND = "step"


@dataclass
class Progress:
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


def save_checkpoint(folder: Path, progress: Progress, state: State, processes: Processes = ALONE) -> None:
    """Write a checkpoint and only then remove older ones. All processes call it; the first one writes."""
    text = json.dumps(asdict(progress)).encode()
    tensors: Tensors = {"progress": torch.frombuffer(bytearray(text), dtype=torch.uint8)}
    tensors |= {f"parameters/{name}": whole(value) for name, value in state.parameters.items()}
    tensors |= {f"averages/{name}": whole(value) for name, value in state.averages.items()}
    names = list(state.parameters)
    for index, entries in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{path}@{names[index]}": value for path, value in _flat(entries)}
    if processes.is_first:
        written = save_checked(folder, KIND, progress.step, tensors)
        for _, path in find_checked(folder, KIND):
            if path != written:
                path.unlink()


def _flat(entries: dict[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """(path, tensor) of an optimiser's state; bitsandbytes nests dictionaries and counts steps in plain int."""
    for name, value in entries.items():
        if isinstance(value, dict):
            yield from ((f"{name}/{path}", tensor.clone()) for path, tensor in _flat(value))  # some are shared
        else:
            yield name, torch.tensor(value) if isinstance(value, int) else whole(value)


def restore_checkpoint(
    folder: Path, state: State, say: Callable[[str], None], processes: Processes = ALONE
) -> Progress:
    """Bring ``state`` to the newest sound checkpoint, if there is one; a damaged one is named and moved aside."""
    newest = processes.first_says(lambda: _newest_sound(folder, say))
    if newest is None:
        return Progress()
    tensors = load(newest.read_bytes())
    progress = Progress(**json.loads(bytes(tensors.pop("progress").tolist())))
    _restore(state, tensors)
    say(f"resuming after step {progress.step}")
    processes.wait()  # the first one may remove the file before long
    return progress


def _newest_sound(folder: Path, say: Callable[[str], None]) -> Path | None:
    checkpoints = (path for _, path in reversed(find_checked(folder, KIND)))
    return next((path for path in checkpoints if load_checked(path, say) is not None), None)


def _restore(state: State, tensors: Tensors) -> None:
    names = list(state.parameters)
    moments: dict[int, dict[str, Any]] = {}  # a parameter without entries has not been stepped yet
    for key, value in tensors.items():
        part, _, name = key.partition("/")
        if part == "parameters":
            parameter = state.parameters[name]
            parameter.data.copy_(placed_like(value, parameter))
        elif part == "averages":
            state.averages[name].copy_(placed_like(value, state.averages[name]))
        else:
            path, _, name = name.partition("@")
            *parents, entry = path.split("/")
            entries = moments.setdefault(names.index(name), {})
            for parent in parents:
                entries = entries.setdefault(parent, {})
            is_count = value.dtype == torch.int64 and value.ndim == 0
            entries[entry] = value.item() if is_count else placed_like(value, state.parameters[name])
    state.optimizer.load_state_dict(state.optimizer.state_dict() | {"state": moments})
