"""Signals that ask a run to end, answered in a test and forgotten after it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from grasp_bench.run import interruption


@contextmanager
def listening(*others: signal.Signals) -> Iterator[None]:
    """Inside the block the process answers as a run does; handlers of these signals too are put back at its end."""
    before = {number: signal.getsignal(number) for number in (*interruption.SIGNALS, *others)}
    interruption.listen()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        interruption._state.asked = False  # of nobody else's training
