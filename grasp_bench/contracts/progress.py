"""Progress of a stage, told to the user: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import IntEnum

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from grasp_bench.terminal import Terminal

LINE_EVERY = 10.0  # seconds between plain lines

Advance = Callable[[int], None]


class Loudness(IntEnum):
    """How much of its progress a command tells."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


class Progress:
    """Writes to stderr, so that a command's result can be piped."""

    def __init__(self, console: Console | None = None, loudness: Loudness = Loudness.NORMAL) -> None:
        self.console, self.loudness = console or Terminal(stderr=True, highlight=False), loudness

    def say(self, message: str) -> None:
        """One line to the user."""
        if self.loudness > Loudness.QUIET:
            self.console.print(message, markup=False, soft_wrap=True)

    def detail(self, message: str) -> None:
        """One line to a user who asked for more."""
        if self.loudness is Loudness.VERBOSE:
            self.say(message)

    def task(self, name: str, total: int, done: int = 0) -> AbstractContextManager[Advance]:
        """A context for work of ``total`` units, ``done`` of them already; yields a function that adds to these."""
        if self.loudness is Loudness.QUIET:
            return nullcontext(_nothing)
        return self._bar(name, total, done) if self.console.is_terminal else self._lines(name, total, done)

    @contextmanager
    def _bar(self, name: str, total: int, done: int) -> Iterator[Advance]:
        columns = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn())
        with Bars(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self.console) as bars:
            task = bars.add_task(name, total=total, completed=done)
            yield lambda count: bars.advance(task, count)

    @contextmanager
    def _lines(self, name: str, total: int, done: int) -> Iterator[Advance]:
        begun = said = time.monotonic()
        current = done

        def advance(count: int) -> None:
            nonlocal current, said
            current += count
            now = time.monotonic()
            if now - said >= LINE_EVERY:
                said = now
                left = (now - begun) / (current - done) * (total - current)
                self.say(f"{name}: {current}/{total}, about {left:.0f} s left")

        yield advance
        self.say(f"{name}: done in {time.monotonic() - begun:.1f} s")


def _nothing(count: int) -> None:
    """Advance nothing."""
