"""Errors that users can fix, and the reasons why a method does not run."""

import difflib
import unicodedata
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
