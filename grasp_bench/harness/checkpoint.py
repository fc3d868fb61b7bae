"""Checkpoints of an unfinished training: progress, trained parameters, their running means, the optimiser's state."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from grasp_bench.checked import Tensors, find_checked, load_checked, save_checked

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


def save_checkpoint(folder: Path, progress: Progress, state: State) -> None:
    """Write a checkpoint and only then remove older ones."""
    text = json.dumps(asdict(progress)).encode()
    tensors: Tensors = {"progress": torch.frombuffer(bytearray(text), dtype=torch.uint8)}
    tensors |= {f"parameters/{name}": value for name, value in state.parameters.items()}
    tensors |= {f"averages/{name}": value for name, value in state.averages.items()}
    names = list(state.parameters)
    for index, entries in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{names[index]}/{entry}": value for entry, value in entries.items()}
    written = save_checked(folder, KIND, progress.step, tensors)
    for _, path in find_checked(folder, KIND):
        if path != written:
            path.unlink()


def restore_checkpoint(folder: Path, state: State, say: Callable[[str], None]) -> Progress:
    """Bring ``state`` to the newest sound checkpoint, if there is one; a damaged one is named and moved aside."""
    for _, path in reversed(find_checked(folder, KIND)):
        tensors = load_checked(path, say)
        if tensors is not None:
            progress = Progress(**json.loads(bytes(tensors.pop("progress").tolist())))
            _restore(state, tensors)
            say(f"resuming after step {progress.step}")
            return progress
    return Progress()


def _restore(state: State, tensors: Tensors) -> None:
    names = list(state.parameters)
    moments: dict[int, Tensors] = {}  # a parameter without entries has not been stepped yet
    for key, value in tensors.items():
        part, name = key.split("/", 1)
        if part == "parameters":
            state.parameters[name].data.copy_(value)
        elif part == "averages":
            state.averages[name].copy_(value)
        else:
            parameter, entry = name.rsplit("/", 1)
            moments.setdefault(names.index(parameter), {})[entry] = value
    state.optimizer.load_state_dict(state.optimizer.state_dict() | {"state": moments})
