"""Files that are either whole or absent: written under a temporary name, synced and renamed."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from grasp_bench import journal
from grasp_bench.errors import AccessError, UserError
from grasp_bench.places import descriptor, followed
from grasp_bench.temporary import temporary_name

if TYPE_CHECKING:
    import numpy as np
    import torch
    from matplotlib.figure import Figure

MAPPED_TYPES = {"BOOL": "?", "U8": "<u1", "I64": "<i8", "F32": "<f4", "F64": "<f8"}
"""Types of safetensors files → numpy's names of them."""

CRLF = "\r\n"


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


def has_digest(path: Path, *expected: str) -> bool:
    """Return whether ``path`` is a file with bytes of one of these sha256 (hex), which may be cut short.

    A file that is missing, or became a folder, a pipe or a link that leads nowhere, has none. Raises
    :class:`AccessError` for one that cannot be read: what may not be read, or a disk that fails for a moment, is no
    sign of damage.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            return False
        found = file_digest(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise unreadable(path, error) from error
    return any(found.startswith(each) for each in expected)


def unreadable(path: Path, error: OSError) -> AccessError:
    """The message for a file that is there and cannot be read."""
    return AccessError(
        f"{path}: cannot be read ({error.strerror}). If it is not yours, ask its owner for permission to read it, or "
        "choose another folder; if the disk fails, repeat the command later."
    )


def sync_folder(folder: Path) -> None:
    """Make renames inside ``folder`` survive a power cut, where the file system can.

    Errors are passed over: the files are there, and SMB and some FUSE file systems know no fsync(2) of a folder.
    """
    with contextlib.suppress(OSError):
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


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it is there. Raises :class:`UserError` where that is refused."""
    with writing(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that becomes ``path`` when the block ends well, and leaves nothing otherwise.

    Raises :class:`UserError` when the place cannot be written or is full.
    """
    temporary = temporary_name(path)
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if journal.needs_digest(path):
                journal.write_down(path, file_digest(temporary))
            temporary.replace(path)
            sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_written_whole(path: Path) -> Iterator[Path]:
    """A folder to fill that becomes ``path``, where nothing or an empty folder is, when the block ends well.

    Nothing is left otherwise. Raises :class:`UserError` when the place cannot be written or is full.
    """
    temporary = temporary_name(path.absolute())
    try:
        remove(temporary)  # of a killed process that had the number of this one
        with writing(path):
            temporary.mkdir(parents=True)
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    with file.open("rb") as opened:
                        os.fsync(opened.fileno())
            for folder in (*(each for each in temporary.rglob("*") if each.is_dir()), temporary):
                sync_folder(folder)
            temporary.replace(path)
            sync_folder(path.absolute().parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises :class:`UserError` when the place cannot be written or is full.

    What is no regular file, such as /dev/stdout or a pipe, is written to and not replaced. A link stays, and what it
    leads to is written.
    """
    if (number := descriptor(path)) is not None:
        _continue(path, number, data)
    elif is_stream(path):
        with writing(path), path.open("ab") as stream:
            stream.write(data)
    else:
        with written_whole(followed(path)) as file:
            file.write(data)


def _continue(path: Path, number: int, data: bytes) -> None:
    """Write where this process has got to in its open file ``number``, and not at its start, as opening it would."""
    with writing(path):
        for each in (sys.stdout, sys.stderr):
            if each is not None:  # what was closed when the process began
                each.flush()
        with os.fdopen(os.dup(number), "wb") as stream:
            stream.write(data)


def is_stream(path: Path) -> bool:
    """Whether a path is that of a pipe, a device or an open file of this process."""
    return _is_open(path) or (path.exists() and not path.is_file() and not path.is_dir())


def _is_open(path: Path) -> bool:
    """Whether a path is that of an open file of this process, such as the shell's ``/dev/fd/63``, or of another's."""
    return path.parts[:2] == ("/", "proc") or descriptor(path) is not None


def check_file(path: Path) -> Path:
    """Return ``path`` unless it is a pipe or a device, which would be waited for; then raise :class:`OSError`.

    One that this process has open already may be read.
    """
    if is_stream(path) and not _is_open(path):
        raise OSError(errno.EINVAL, "it is a pipe or a device, and no file", str(path))
    return path


def write_with_digest(path: Path, data: bytes) -> None:
    """Write a file whose first line is the sha256 (hex) of what follows, and replace whatever is no folder there."""
    with written_whole(path) as file:
        file.write(hashlib.sha256(data).hexdigest().encode() + b"\n" + data)


def read_with_digest(path: Path) -> bytes:
    """Read what :func:`write_with_digest` was given. Raises ValueError where that is not what the file holds."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: is no file")  # a pipe would be waited for
    known, _, data = path.read_bytes().partition(b"\n")
    if known != hashlib.sha256(data).hexdigest().encode():
        raise ValueError(f"{path}: its bytes are not those that were written")
    return data


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON; NaN and infinity are refused with ValueError."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object of a file that was fetched. Raises :class:`UserError` for anything else."""
    try:
        value = json.loads(check_file(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}). Fetch it again.") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object. Fetch it again.")
    return value


def as_csv(rows: Iterable[Iterable[object]]) -> str:
    """CSV of rows, each ended by a newline alone; a value with a line break of any kind is quoted."""
    return "".join(map(_csv_line, rows))


def _csv_line(row: Iterable[object]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator=CRLF).writerow(row)  # with "\n" alone, Python before 3.13 quotes no "\r"
    return out.getvalue().removesuffix(CRLF) + "\n"


def png(figure: Figure, software: str | None = None) -> bytes:
    """A matplotlib figure as a PNG file whose bytes depend on what is drawn, and on the ``software`` named in it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": software})
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


def move_aside(path: Path, mark: str = journal.ASIDE, suffix: str = "") -> Path:
    """Rename a file or folder to ``<name><mark><k>``, of a damaged one ``<name>.corrupt-<k>``, and return the new path.

    A ``suffix`` of the name stays at its end. Raises :class:`UserError` where that is refused.
    """
    stem = path.name.removesuffix(suffix)
    number = 1
    while (aside := path.with_name(f"{stem}{mark}{number}{suffix}")).exists():
        number += 1
    with writing(path):
        path.replace(aside)
    return aside
