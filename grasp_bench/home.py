"""``~`` in what a user writes: it stands for the home folder where a path begins with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeVar

from grasp_bench.errors import UserError

V = TypeVar("V")

HOME = re.compile(r"(?:[\w.-]+[:=])?(?=~(?:/|$))")
"""What may stand before the ``~`` of a path in other text: NAME: of a backbone, NAME= of a setting."""


def with_home(value: V) -> V:
    """The value with ``~`` replaced in paths, and in text that is or ends in one, however deep in lists and mappings.

    Raises :class:`UserError` where the home folder is not known.
    """
    return _expanded(value)  # type: ignore[return-value] # it has the type that it was given


def _expanded(value: object) -> object:
    if isinstance(value, list):
        return [_expanded(each) for each in value]
    if isinstance(value, dict):
        return {_expanded(name): _expanded(each) for name, each in value.items()}
    try:
        if isinstance(value, Path):
            return value.expanduser()
        if isinstance(value, str) and (before := HOME.match(value)):
            return before[0] + str(Path(value[before.end() :]).expanduser())
    except RuntimeError as error:
        raise UserError(
            f"{value}: {error} Write out which folder ~ stands for, or ./~ for one of that name."
        ) from error
    return value
