"""What a forward pass knows of its batch, carried beside the transformer's arguments in a context variable.

Gradient checkpointing runs the forward pass again during the backward pass, possibly in another thread, where a
context variable is empty: :func:`checkpoint` captures the scopes at forward time and enters them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
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
        function, *arguments, use_reentrant=False, context_fn=lambda: (nullcontext(), _again(captured))
    )


@contextmanager
def _again(captured: tuple[Any, ...]) -> Iterator[None]:
    recomputing_token, scopes_token = _recomputing.set(True), _scopes.set(captured)
    try:
        yield
    finally:
        _scopes.reset(scopes_token)
        _recomputing.reset(recomputing_token)
