"""What a forward pass knows of its batch, carried beside the transformer's arguments in a context variable.

Gradient checkpointing runs the forward pass again during the backward pass, possibly in another thread, where a
context variable is empty: :func:`checkpoint` captures the scope at forward time and re-enters it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch

_scope: ContextVar[Any] = ContextVar("scope", default=None)
_recomputing: ContextVar[bool] = ContextVar("recomputing", default=False)


@contextmanager
def scope(value: object) -> Iterator[None]:
    """Make ``value`` what :func:`current_scope` returns inside the block."""
    token = _scope.set(value)
    try:
        yield
    finally:
        _scope.reset(token)


def current_scope() -> Any:
    """The innermost scope, or None."""
    return _scope.get()


def recomputing() -> bool:
    """True while a checkpointed forward pass is run for the second time: what it records must not count twice."""
    return _recomputing.get()


def checkpoint(function: Callable[..., Any], *arguments: Any) -> Any:
    """A ``gradient_checkpointing_func`` for diffusers that keeps the scope of the first pass."""
    captured = _scope.get()
    return torch.utils.checkpoint.checkpoint(
        function, *arguments, use_reentrant=False, context_fn=lambda: (nullcontext(), _again(captured))
    )


@contextmanager
def _again(captured: object) -> Iterator[None]:
    token = _recomputing.set(True)
    try:
        with scope(captured):
            yield
    finally:
        _recomputing.reset(token)
