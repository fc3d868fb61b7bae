"""Ending a run ahead of a time limit: a signal asks for it, and a training answers at the end of its step.

SIGUSR1 is what clusters send where they are asked to warn a job, SIGTERM what they send before they take its place
away. Ctrl-C stays what it is: it ends a run at once.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGUSR1, signal.SIGTERM)


class Ended(KeyboardInterrupt):
    """A training has ended because a signal asked for it, in all of its processes, after a checkpoint."""


class _State:
    asked = False
    waits = False


_state = _State()


def listen(to: tuple[signal.Signals, ...] = SIGNALS) -> None:
    """Answer signals from here on: a training by a checkpoint, everything else at once, by a KeyboardInterrupt.

    They may have been blocked until now, so that a process which still imports its modules does not die of one.
    """
    _state.asked = False
    for number in to:
        signal.signal(number, _answer)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, to)


def _answer(number: int, frame: FrameType | None) -> None:
    again, _state.asked = _state.asked, True
    if not _state.waits and not again:  # a launcher may send it twice, the second time while the record is written
        raise KeyboardInterrupt


@contextmanager
def postponed() -> Iterator[Callable[[], bool]]:
    """Inside the block a signal ends nothing; what the context gives says whether there was one.

    A signal that nobody has answered ends the run when the block does.
    """
    before, _state.waits = _state.waits, True
    try:
        yield lambda: _state.asked
    finally:
        _state.waits = before
    if _state.asked and not before:
        raise KeyboardInterrupt
