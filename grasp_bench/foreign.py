"""What code of plugins may raise, which is anything: told apart from the user's own Ctrl-C, and put into words."""

from __future__ import annotations

import dis

OURS = __name__.partition(".")[0]


def let_through(error: BaseException) -> None:
    """Raise the error again if it is an interruption by a signal, and not a KeyboardInterrupt that a plugin raises.

    A signal comes up between two instructions, or in our own answer to it; the code of a plugin has to raise.
    """
    if isinstance(error, KeyboardInterrupt) and not _raised_by_others(error):
        raise error


def _raised_by_others(error: BaseException) -> bool:
    """Whether the instruction that the error comes from is a ``raise`` outside this package."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None or str(last.tb_frame.f_globals.get("__name__", "")).partition(".")[0] == OURS:
        return False
    return dis.opname[last.tb_frame.f_code.co_code[last.tb_lasti]] == "RAISE_VARARGS"


def told(error: BaseException) -> str:
    """The class of an exception and its text, or that it has none: making it may raise another one."""
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException as another:
        return f"{type(error).__name__}: (its text cannot be made: {type(another).__name__})"
