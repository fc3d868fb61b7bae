"""Standard output and error: what they cannot encode is replaced, and a disk that is full is one message."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from pathlib import Path

SIGNS = {
    **{"─": "-", "−": "-", "–": "-", "—": "-", "…": "...", "×": "x", "±": "+-", "→": "->", "↑": "^", "↓": "v"},  # noqa: RUF001 # what is replaced
    **{"≥": ">=", "≤": "<=", "·": "-", "•": "*", "█": "#", "✓": "+"},
}
"""Sign → what stands for it where it cannot be shown; "?" stands for any other."""
HANDLER = "grasp-bench"


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(SIGNS.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


def always_there() -> None:
    """Let a standard stream that was closed when the process began read nothing, and write nowhere.

    Its number is taken as well, which the next file to be opened would have otherwise.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 # for as long as the process


def never_refuse() -> None:
    """Let standard output and error replace what their encoding lacks, instead of raising UnicodeEncodeError."""
    codecs.register_error(HANDLER, _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)


def give_up() -> None:
    """Let what standard output still holds go nowhere, since Python writes it at the end and would complain again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
