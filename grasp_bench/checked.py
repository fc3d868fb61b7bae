"""Tensors of unfinished work, in safetensors files whose names carry the hash of their bytes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load, save

from grasp_bench.io import write_bytes
from grasp_bench.record import move_aside

Tensors = dict[str, torch.Tensor]


def save_checked(folder: Path, kind: str, number: int, tensors: Tensors) -> Path:
    """Write ``<kind>-<number>.<hash>.safetensors`` whole or not at all."""
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    path = folder / f"{kind}-{number:08d}.{_digest(data)}.safetensors"
    write_bytes(path, data)
    return path


def load_checked(path: Path, say: Callable[[str], None]) -> Tensors | None:
    """The tensors, or None when the bytes are not those that were written: the file is named and moved aside."""
    data = path.read_bytes()
    if path.name.split(".")[1] == _digest(data):
        return load(data)
    aside = move_aside(path)
    say(f"{path} is damaged; it was moved to {aside.name} and is not used")
    return None


def find_checked(folder: Path, kind: str) -> list[tuple[int, Path]]:
    """(number, path) of every file of a kind, by rising number."""
    name = re.compile(re.escape(kind) + r"-(\d+)\.[0-9a-f]{16}\.safetensors")
    return sorted((int(match[1]), path) for path in folder.iterdir() if (match := name.fullmatch(path.name)))


def remove_checked(folder: Path, kind: str) -> None:
    """Remove every file of a kind."""
    for _, path in find_checked(folder, kind):
        path.unlink()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
