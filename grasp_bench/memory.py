"""Memory that runs out: work in smaller parts where its outcome allows that, and errors that say why not."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, Self, TypeVar

from grasp_bench.exchange import alone

R = TypeVar("R")


class Items(Protocol):
    """What has a length and can be sliced: a list, a range, an array or a tensor."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Self: ...


I = TypeVar("I", bound=Items)  # noqa: E741


class Portion:
    """How many items are worked on at a time: half as many from where memory runs out on, which is told.

    It is for work on items that do not depend on each other, whose numbers change by rounding alone.
    """

    def __init__(self, at_once: int, doing: str, say: Callable[[str], None]) -> None:
        """``doing`` completes "16 ... at a time", such as "images are encoded"."""
        self.at_once, self.doing, self.say = at_once, doing, say

    def over(self, items: I, work: Callable[[I], R]) -> Iterator[R]:
        """Yield what ``work`` returns for each part of ``items``, in their order.

        ``work`` is called again with half of a part that memory ran out in, so it must not leave anything behind
        before it ends. Raises its error where a single item has no room.
        """
        done = 0
        while done < len(items):
            part, found = items[done : done + self.at_once], list[R]()

            def attempt(part: I = part, found: list[R] = found) -> None:
                found.append(work(part))

            if len(part) == 1:
                attempt()
            elif not has_room(attempt):
                self.at_once = len(part) // 2
                self.say(f"memory ran out: from here on {self.at_once} {self.doing} at a time")
                continue
            done += len(part)
            yield found.pop()


@contextmanager
def in_one_part(reason: str) -> Iterator[None]:
    """Add to an error that says that memory ran out why the work of the block is not done in smaller parts."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            error.add_note(reason)
        raise


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on a GPU or on the CPU."""
    import torch

    allocation = "not enough memory" in str(error) or "can't allocate memory" in str(error)
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or allocation


def release() -> None:
    """Give cached memory of GPUs back, once nothing refers to it: call it outside of an ``except`` block."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()  # does nothing where no GPU is in use


def has_room(attempt: Callable[[], None]) -> bool:
    """Return whether ``attempt`` ends without running out of memory, which is then given back."""
    try:
        with alone():
            attempt()
        fits = True
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        fits = False
    if not fits:
        release()  # not in the except block, where the error still holds every tensor of the attempt
    return fits
