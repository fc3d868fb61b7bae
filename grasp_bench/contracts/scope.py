"""What a forward pass knows of its batch, carried beside the transformer's arguments in a context variable.

Gradient checkpointing runs the forward pass again during the backward pass, possibly in another thread, where a
context variable is empty: :func:`checkpoint` captures the scopes at forward time and enters them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch

_scopes: ContextVar[tuple[Any, ...]] = ContextVar("scopes", default=())
_recomputing: ContextVar[bool] = ContextVar("recomputing", default=False)


@contextmanager
def scope(value: object) -> Iterator[None]:
    """Make ``value`` what :func:`current_scope` returns inside the block; scopes nest."""
    token = _scopes.set((*_scopes.get(), value))
    try:
        yield
    finally:
        _scopes.reset(token)


def current_scope() -> Any:
    """The innermost scope, or None."""
    return next(reversed(_scopes.get()), None)


def in_scope(value: object) -> bool:
    """Whether ``value`` itself is the innermost scope or one around it."""
    return any(each is value for each in _scopes.get())


def recomputing() -> bool:
    """True while a checkpointed forward pass is run for the second time: what it records must not count twice."""
    return _recomputing.get()


def checkpoint(function: Callable[..., Any], *arguments: Any) -> Any:
    """A ``gradient_checkpointing_func`` for diffusers that keeps the scopes of the first pass."""
    captured = _scopes.get()
    return torch.utils.checkpoint.checkpoint(
        function, *arguments, use_reentrant=False, context_fn=lambda: (nullcontext(), _Again(captured))
    )


class _Again:
    """The scopes of the first pass, entered by every backward pass through it, of which there may be several."""

    def __init__(self, captured: tuple[Any, ...]) -> None:
        self.captured, self.stack = captured, ExitStack()

    def __enter__(self) -> None:
        self.stack.callback(_recomputing.reset, _recomputing.set(True))
        self.stack.callback(_scopes.reset, _scopes.set(self.captured))

    def __exit__(self, *error: object) -> None:
        self.stack.close()
