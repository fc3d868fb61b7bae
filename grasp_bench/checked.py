"""Tensors of unfinished work, in safetensors files whose names carry the hash of their bytes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from grasp_bench.io import has_digest, move_aside, read_tensors, remove, written_whole
from grasp_bench.journal import NAMED

if TYPE_CHECKING:
    import torch

Tensors: TypeAlias = "dict[str, torch.Tensor]"
DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
}
"""torch's name of a type → safetensors' name of it."""


def save_checked(folder: Path, kind: str, number: int, tensors: Tensors) -> Path:
    """Write ``<kind>-<number>.<hash>.safetensors`` whole or not at all."""
    parts = _parts({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    path = folder / f"{kind}-{number:08d}.{_digest(*parts)}.safetensors"
    with written_whole(path) as file:
        for part in parts:
            file.write(part)
    return path


def _parts(tensors: Tensors) -> list[bytes | memoryview]:
    """The bytes of a safetensors file: the header's length, the header, each contiguous tensor as it lies in memory.

    The library's own function copies everything twice and holds the interpreter's lock meanwhile; this one copies
    nothing, so that training goes on while a checkpoint of many gigabytes is written.
    """
    import torch

    header: dict[str, object] = {}
    views, end = list[memoryview](), 0
    for name in sorted(tensors, key=lambda name: (-tensors[name].itemsize, name)):  # so each is aligned
        tensor = tensors[name]
        start, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": DTYPES[str(tensor.dtype).removeprefix("torch.")],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
        views.append(tensor.reshape(-1).view(torch.uint8).numpy().data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little"), text, *views]


def load_checked(path: Path, say: Callable[[str], None]) -> Tensors | None:
    """The tensors, or None when the bytes are not those that were written: the file is named and moved aside.

    Raises :class:`UserError` for a file that cannot be read, and where it cannot be moved.
    """
    if is_sound(path):
        return read_tensors(path)
    aside = move_aside(path)
    say(f"{path} is damaged; it was moved to {aside.name} and is not used")
    return None


def is_sound(path: Path) -> bool:
    """Whether the bytes of a file are those that were written."""
    named = NAMED.fullmatch(path.name)
    assert named
    return has_digest(path, named[1])


def find_checked(folder: Path, kind: str) -> list[tuple[int, Path]]:
    """(number, path) of every file of a kind, by rising number."""
    name = re.compile(re.escape(kind) + r"-(\d+)\.[0-9a-f]{16}\.safetensors")
    return sorted((int(match[1]), path) for path in folder.iterdir() if (match := name.fullmatch(path.name)))


def undamaged(folder: Path, kind: str, say: Callable[[str], None]) -> Iterator[tuple[int, Tensors]]:
    """(number, tensors) of every undamaged file of a kind, by rising number; damaged ones as :func:`load_checked`."""
    for number, path in find_checked(folder, kind):
        if (tensors := load_checked(path, say)) is not None:
            yield number, tensors


def remove_checked(folder: Path, kind: str) -> None:
    """Remove every file of a kind."""
    for _, path in find_checked(folder, kind):
        remove(path)


def _digest(*parts: bytes | memoryview) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:16]
