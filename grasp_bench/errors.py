"""Errors that users can fix, and the reasons why a method does not run."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails


class UserError(Exception):
    """An error that the user can fix.

    The message names where (file, row or field), what was found, what was expected and how to fix it.
    The command line prints it alone, without a traceback, and exits with 2.
    """


class AccessError(UserError):
    """A file is there, and may not be read or the disk fails: no sign that the file is damaged."""


class NonFiniteError(Exception):
    """A loss, gradient or image stopped being a number: the message names the step and the samples.

    It is neither the user's mistake nor a fault of the program.
    """


@dataclass(frozen=True)
class Skip:
    """Why a method does not run on a backbone or task; shown in the leaderboard as its reason."""

    reason: str


def first_fault(error: ValidationError, value: bool = False) -> str:
    """The first fault that pydantic found, as :func:`fault_told` tells it."""
    return fault_told(error.errors()[0], value)


def fault_told(fault: ErrorDetails, value: bool = False) -> str:
    """A fault that pydantic found: the field, on request with its value, and what is wrong.

    A fault of several fields together, or of the whole, is told without any.
    """
    what, field = fault["msg"].removeprefix("Value error, "), ".".join(map(str, fault["loc"]))
    if not field:
        return what
    return f"{field}={fault['input']!r}: {what}" if value else f"{field}: {what}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint at the nearest known name, with a leading space; empty where none is near."""
    known = list(known)
    close = difflib.get_close_matches(name, known, 1)
    return other_form([name], known) or (f" Did you mean {close[0]!r}?" if close else "")


def other_form(names: Iterable[str], known: Iterable[str]) -> str:
    """A hint, with a leading space, at the first of ``names`` that differs from a known one in its normal form alone.

    Nobody can see that, so both are told escaped. Empty where there is none.
    """
    forms = {unicodedata.normalize("NFKC", each): each for each in known}
    for name in names:
        twin = forms.get(unicodedata.normalize("NFKC", name), name)
        if twin != name:
            return (
                f" {name!a} looks like {twin!a} and differs in its Unicode normal form alone, as names of "
                f"files from macOS may. Write it as {twin!a}."
            )
    return ""
