"""Numbers that the processes of a run exchange, and attempts that fail in all of them where they fail in one.

A process whose attempt fails leaves the others at whatever they exchange next. So within an attempt every exchange is
preceded by that of a flag, by way of the CPU: a process that has failed says so in place of its next exchange, and the
others end their attempts there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from grasp_bench.processes import PATIENCE, own_index, patient

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
_alone: ContextVar[bool] = ContextVar("alone", default=False)
_attempts: ContextVar[bool] = ContextVar("attempts", default=False)


class FailedElsewhereError(Exception):
    """The attempt has failed in another process."""


@contextmanager
def alone() -> Iterator[None]:
    """Inside the block, :func:`total` and :func:`mean` are of this process alone, which may do what others do not."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def attempt_together(work: Callable[[], T], failed: Callable[[Exception], bool]) -> list[T]:
    """Return what ``work`` returns, in a list that is empty where it has failed in any process.

    Every process calls this at the same time. ``failed`` says whether an error is such a failure; others are raised.
    ``work`` may exchange numbers by this module, and by anything else once it has called :func:`agree`.
    """
    token, found = _attempts.set(True), list[T]()
    try:
        found.append(work())
    except FailedElsewhereError:
        return []
    except Exception as error:
        if not _attempts.get() or not failed(error):
            raise
    finally:
        is_agreed = not _attempts.get()
        _attempts.reset(token)
    return found if is_agreed or not _any_fails(not found) else []


def agree() -> None:
    """End the attempt, if this is within one, in which no process fails from here on.

    Raises :class:`FailedElsewhereError` where another has failed before.
    """
    if _attempts.get():
        if _any_fails(False):
            raise FailedElsewhereError
        _attempts.set(False)


def _any_fails(fails: bool) -> bool:
    """Return whether any process's attempt has failed; the GPUs are not waited for."""
    if not _are_joined():
        return fails
    import torch.distributed

    flag = torch.tensor(int(fails))
    with patient(own_index()):
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX, _flags())
    return bool(flag.item())


@cache
def _flags() -> Any:
    """Return the group by which flags are exchanged, from memory to memory; all processes ask for it first together."""
    import torch.distributed

    return torch.distributed.new_group(backend="gloo", timeout=PATIENCE)


def _are_joined() -> bool:
    import torch.distributed

    return torch.distributed.is_available() and torch.distributed.is_initialized() and not _alone.get()


def total(tensor: torch.Tensor) -> torch.Tensor:
    """Return the sum of every process's ``tensor``; no gradient passes through it."""
    import torch.distributed

    if not _are_joined():
        return tensor
    if _attempts.get() and _any_fails(False):
        raise FailedElsewhereError
    summed = tensor.detach().clone()
    torch.distributed.all_reduce(summed)
    return summed


def mean(tensor: torch.Tensor) -> torch.Tensor:
    """Return the mean of every process's ``tensor``; no gradient passes through it."""
    import torch.distributed

    summed = total(tensor)
    return tensor if summed is tensor else summed / torch.distributed.get_world_size()


def largest(number: int, device: torch.device) -> int:
    """Return the largest of every process's ``number``, exchanged by way of ``device``."""
    import torch.distributed

    if not _are_joined():
        return number
    found = torch.tensor(number, device=device)
    torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
    return int(found.item())
