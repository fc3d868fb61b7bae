"""Named arrays in ``.npz`` files, read without ever unpickling."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from grasp_bench.errors import UserError


@contextmanager
def opened(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """The arrays of an ``.npz`` by name, read when they are asked for.

    Raises :class:`UserError` when the file is absent, damaged, or holds Python objects, which are never loaded.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise UserError(f"{path}: is a single array, expected an .npz. Write it with numpy.savez.")
        with loaded as arrays:
            yield arrays
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file.") from error
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{path}: cannot be read as .npz ({error}). It is damaged, or holds Python objects, which are never "
            "loaded: write it again with numpy.savez and arrays of numbers or strings."
        ) from error


def names_of(path: Path, arrays: Mapping[str, np.ndarray], key: str, count: int) -> list[str] | None:
    """The ``count`` integers or strings under ``key`` as strings, or None where there is no ``key``."""
    if key not in arrays:
        return None
    values = arrays[key]
    if values.shape != (count,) or values.dtype.kind not in "iuUS":
        raise UserError(f"{path}: {key} is {values.dtype} {values.shape}, expected {count} integers or strings.")
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8")
    names = [str(value) for value in values]
    if "" in names:
        raise UserError(f"{path}: {key}[{names.index('')}] is empty.")
    return names
