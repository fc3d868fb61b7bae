"""Columns of a parquet file from plain values, and back.

``pyarrow.array`` and ``Array.to_numpy`` import pandas, which takes as long as all that a report does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa


def texts(values: Sequence[str | None]) -> pa.Array:
    """Strings, null for None."""
    import pyarrow as pa

    encoded = [(value or "").encode() for value in values]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    buffers = [_validity(values), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)


def whole_numbers(values: Sequence[int | None]) -> pa.Array:
    """64-bit integers, null for None."""
    return _numbers(values, np.int64)


def numbers(values: Sequence[float | None]) -> pa.Array:
    """64-bit floats, null for None."""
    return _numbers(values, np.float64)


def plain(values: np.ndarray) -> pa.Array:
    """An array (n,) of numbers as it is."""
    import pyarrow as pa

    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def lists(values: np.ndarray, ends: np.ndarray) -> pa.Array:
    """Slices of ``values`` (n,): list i has those from ``ends[i]`` up to ``ends[i + 1]``."""
    import pyarrow as pa

    return pa.ListArray.from_arrays(plain(ends.astype(np.int32)), plain(values))


def unpacked(column: pa.Array) -> np.ndarray:
    """The numbers of a column (n,) without nulls. Raises ValueError where it has some."""
    if column.null_count:
        raise ValueError(f"{column.null_count} values are null")
    kind = np.dtype(column.type.to_pandas_dtype())
    return np.frombuffer(column.buffers()[-1] or b"", kind, len(column), column.offset * kind.itemsize)


def _numbers(values: Sequence[Any], kind: type[np.number[Any]]) -> pa.Array:
    import pyarrow as pa

    array = np.array([0 if value is None else value for value in values], kind)
    buffers = [_validity(values), pa.py_buffer(array)]
    return pa.Array.from_buffers(pa.from_numpy_dtype(array.dtype), len(array), buffers)


def _validity(values: Sequence[Any]) -> pa.Buffer | None:
    """Arrow's bit for each value that is there."""
    import pyarrow as pa

    there = np.array([value is not None for value in values], bool)
    return None if there.all() else pa.py_buffer(np.packbits(there, bitorder="little"))
