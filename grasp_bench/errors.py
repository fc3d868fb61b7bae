"""Errors that users can fix, and the reasons why a method does not run."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


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


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint at the nearest known name, with a leading space; empty where none is near."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f" Did you mean {close[0]!r}?" if close else ""
