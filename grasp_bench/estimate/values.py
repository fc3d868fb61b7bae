"""Values of small simulated tensors, kept beside them: they decide which way the code goes.

Labels, the steps of a scheduler, the segments of a route: whatever follows from known values alone is computed for
real, on the host. What is read of any other tensor is 1, or True.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.utils._pytree import tree_leaves, tree_map

KNOWN = 4096  # elements: of larger tensors no values are kept
HOST = torch.device("cpu")
ATTRIBUTE = "_grasp_bench_value"

to_array = torch.Tensor.numpy
"""torch's own, for which a simulated GPU has a stand-in."""

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

real = unset_fake_temporarily
"""A context in which tensors are real, within that of a simulated GPU."""


def value_of(tensor: torch.Tensor) -> torch.Tensor | None:
    """Return the values of a tensor on the host; None where they are not known."""
    if isinstance(tensor, FakeTensor):
        found: torch.Tensor | None = getattr(tensor, ATTRIBUTE, None)
        return found
    return tensor if tensor.numel() <= KNOWN else None


def as_array(tensor: torch.Tensor) -> np.ndarray:
    """Return the values of a tensor, ones where they are not known."""
    with real():
        if not isinstance(tensor, FakeTensor):
            return to_array(tensor.detach())
        value = value_of(tensor)
        return to_array(torch.ones(tuple(tensor.shape), dtype=tensor.dtype) if value is None else value.detach())


def known_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
    """Return the arguments of an operation with values in the place of tensors; None where some are not known."""
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
    if any(value_of(tensor) is None for tensor in tensors):
        return None
    return tree_map(_on_host, args), tree_map(_on_host, kwargs)


def keep(func: Any, args: tuple[Any, ...], known: Arguments | None, out: Any) -> None:
    """Keep the values of what an operation gave, where they follow from known ones; forget what it overwrote."""
    if known is None:
        if func._schema.is_mutable:
            for tensor in tree_leaves(args):
                if isinstance(tensor, FakeTensor):
                    tensor.__dict__.pop(ATTRIBUTE, None)
        return
    made = [each for each in tree_leaves(out) if isinstance(each, torch.Tensor)]
    if any(tensor.numel() > KNOWN for tensor in made) or not (made or func._schema.is_mutable):
        return
    with real(), contextlib.suppress(Exception):  # some operations exist on a GPU alone
        found = tree_leaves(func(*known[0], **known[1]))
        for tensor, value in zip(made, found, strict=True):
            if tensor.shape == value.shape and tensor.dtype == value.dtype:
                setattr(tensor, ATTRIBUTE, value)


def of_any_shape(func: Any, args: tuple[Any, ...], known: Arguments | None, device: torch.device) -> Any:
    """Return the outcome of an operation whose shape depends on values.

    Where they are not known, every element is taken to be true or different from the others.
    """
    if known is None:
        return _when_all_count(func, args, device)
    with real():
        values = func(*known[0], **known[1])

    return tree_map(lambda value: _simulated(value, device) if isinstance(value, torch.Tensor) else value, values)


def _simulated(value: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a simulated tensor of known values."""
    tensor = torch.empty_like(value, device=device)
    setattr(tensor, ATTRIBUTE, value)
    return tensor


def _when_all_count(func: Any, args: tuple[Any, ...], device: torch.device) -> Any:
    tensor, aten = args[0], torch.ops.aten
    if func is aten.nonzero.default:
        return torch.empty(tensor.numel(), tensor.ndim, dtype=torch.int64, device=device)
    if func is aten.bincount.default:
        return torch.empty(args[2] if len(args) > 2 else 1, dtype=torch.int64, device=device)
    if func in (aten.masked_select.default, aten.index.Tensor):
        return tensor.clone()
    if func is aten.unique_consecutive.default:
        with real():
            places, once = torch.arange(tensor.numel()), torch.ones(tensor.numel(), dtype=torch.int64)
        return tensor.clone(), _simulated(places, device), _simulated(once, device)
    raise NotImplementedError(f"{func}: its shape depends on values that a simulation does not have")


def _on_host(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        return value_of(leaf)
    return HOST if isinstance(leaf, torch.device) else leaf
