"""Bounds on numbers and text of a user: what tables, JSON, parquet and file systems can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

LARGEST_INTEGER = 2**63 - 1
"""What parquet's and TOML's integers hold."""
LARGEST = 1e150
"""Largest float of a record: its square, and sums of many squares, are still finite."""

MOST_DRAWS = 1_000_000
"""Most draws, resamples, images per class or trials that are asked for at once."""
MOST_STEPS = 10_000
"""Most steps of sampling."""
MOST_THREADS = 1024
"""Most threads of a CPU, and most processes."""

Count = Annotated[int, Field(ge=0, le=LARGEST_INTEGER)]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]


def fault(value: Any) -> str | None:
    """Why a value, or one inside its lists and mappings, cannot be kept: what was found and what was expected.

    None for a value that can. Integers have 64 bits, text is Unicode without NUL, which no path may hold.
    """
    if isinstance(value, str):
        if "\0" in value:
            return "holds a NUL character, which neither paths nor tables may have"
        return None if value.isascii() or _encodable(value) else "holds bytes that are no UTF-8"
    if isinstance(value, int):
        return None if abs(value) <= LARGEST_INTEGER else f"is an integer beyond ±{LARGEST_INTEGER}"
    if isinstance(value, Mapping):
        return next(filter(None, map(fault, (*value.keys(), *value.values()))), None)
    if isinstance(value, list | tuple | set | frozenset):
        return next(filter(None, map(fault, value)), None)
    return None


def kept(value: Any) -> Any:
    """The value itself. Raises ValueError for one that :func:`fault` finds fault with."""
    if why := fault(value):
        raise ValueError(why)
    return value


def is_count(text: str) -> bool:
    """Whether a text is a whole number from 0 to the largest integer, in ASCII digits."""
    return (
        text.isascii() and text.isdecimal() and len(text) <= len(str(LARGEST_INTEGER)) and int(text) <= LARGEST_INTEGER
    )


def option_fault(value: Any) -> str | None:
    """Why a command line's option cannot have a value: numbers are finite, and integers have 64 bits."""
    if isinstance(value, list | tuple):
        return next(filter(None, map(option_fault, value)), None)
    if isinstance(value, float):
        return None if math.isfinite(value) else "is not finite"
    return fault(value) if isinstance(value, int) else None


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
