"""Checkpoints of an unfinished training: one safetensors file whose name carries the hash of its bytes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load, save

from grasp_bench.io import write_bytes
from grasp_bench.record import move_aside

NAME = re.compile(r"step-(\d+)\.([0-9a-f]{16})\.safetensors")

Tensors = dict[str, torch.Tensor]


def save_checkpoint(folder: Path, step: int, tensors: Tensors) -> None:
    """Write the checkpoint of ``step`` and only then remove older ones."""
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    path = folder / f"step-{step:08d}.{_digest(data)}.safetensors"
    write_bytes(path, data)
    for _, other in _checkpoints(folder):
        if other != path:
            other.unlink()


def load_checkpoint(folder: Path, say: Callable[[str], None]) -> tuple[int, Tensors] | None:
    """(step, tensors) of the newest sound checkpoint; a damaged one is named and moved aside."""
    for step, path in _checkpoints(folder):
        data = path.read_bytes()
        if path.name.split(".")[1] == _digest(data):
            return step, load(data)
        aside = move_aside(path)
        say(f"checkpoint {path} is damaged; it was moved to {aside.name} and is not used")
    return None


def remove_checkpoints(folder: Path) -> None:
    """Remove every checkpoint, once the training has finished."""
    for _, path in _checkpoints(folder):
        path.unlink()


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: list[str]) -> Tensors:
    """The optimiser's state as tensors named ``<parameter>/<entry>``; ``names`` in the optimiser's order."""
    state = optimizer.state_dict()["state"]
    return {f"{names[index]}/{entry}": value for index, entries in state.items() for entry, value in entries.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, names: list[str], tensors: Tensors) -> None:
    """Undo :func:`optimizer_tensors`; a parameter without entries has not been stepped yet."""
    state: dict[int, Tensors] = {}
    for key, value in tensors.items():
        name, entry = key.rsplit("/", 1)
        state.setdefault(names.index(name), {})[entry] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def _checkpoints(folder: Path) -> Iterator[tuple[int, Path]]:
    """(step, path), newest first."""
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := NAME.fullmatch(path.name))]
    yield from sorted(found, reverse=True)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
