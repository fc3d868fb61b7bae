"""Files that are either whole or absent: written under a temporary name, synced and renamed."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from grasp_bench.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from matplotlib.figure import Figure

MAPPED_TYPES = {"BOOL": "?", "U8": "<u1", "I64": "<i8", "F32": "<f4", "F64": "<f8"}
"""Types of safetensors files → numpy's names of them."""


def canonical_json(value: Any) -> str:
    """JSON that is equal for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """sha256 (hex) of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def flattened(values: Mapping[str, Any], separator: str = ".") -> dict[str, Any]:
    """One level of ``values``, a mapping of mappings: the name of a nested value is the names on its way, joined."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= {f"{name}{separator}{inner}": each for inner, each in flattened(value, separator).items()}
        else:
            found[name] = value
    return found


def file_digest(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make renames inside ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError inside the block into a :class:`UserError`: ``path`` cannot be written, or the disk is full."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}). Free some space or choose a folder that you may write to; "
            "what was finished before is kept."
        ) from error


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that becomes ``path`` when the block ends well, and leaves nothing otherwise.

    Raises :class:`UserError` when the place cannot be written or is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises :class:`UserError` when the place cannot be written or is full."""
    with written_whole(path) as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON; NaN and infinity are refused with ValueError."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object of a file that was fetched. Raises :class:`UserError` for anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}). Fetch it again.") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object. Fetch it again.")
    return value


def as_csv(rows: Iterable[Iterable[object]]) -> str:
    """CSV of rows, each ended by a newline alone."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def png(figure: Figure) -> bytes:
    """A matplotlib figure as a PNG file whose bytes depend on what is drawn alone."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors as safetensors."""
    from safetensors.torch import save

    write_bytes(path, save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file onto the CPU."""
    from safetensors.torch import load_file

    return load_file(path)


def mapped_tensor(path: Path, name: str) -> np.ndarray:
    """One tensor of a safetensors file, read-only and read from the disk as it is used.

    The format: the header's length as an unsigned 64-bit little-endian number, the header in JSON, and the data.
    """
    import numpy as np

    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))[name]
    return np.memmap(
        path, MAPPED_TYPES[entry["dtype"]], "r", 8 + length + entry["data_offsets"][0], tuple(entry["shape"])
    )


def move_aside(path: Path) -> Path:
    """Rename a damaged file or folder to ``<name>.corrupt-<k>`` and return the new path."""
    number = 1
    while (aside := path.with_name(f"{path.name}.corrupt-{number}")).exists():
        number += 1
    path.replace(aside)
    return aside
