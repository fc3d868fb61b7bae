"""Comparisons that say in words what differs: of tensors, of names, and of a network at two moments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from grasp_bench.testing.checks import require

RTOL, ATOL = 1e-4, 1e-5  # of predictions in batches of different sizes, in single precision


def some(names: Iterable[str]) -> str:
    """The first few names, and how many there are."""
    ordered = sorted(names)
    return ", ".join(ordered[:3]) + (f" and {len(ordered) - 3} more" if len(ordered) > 3 else "")


def none(words: str, names: Iterable[str], advice: str = "") -> None:
    """Raise AssertionError with ``words``, the names and ``advice`` if there are any names."""
    listed = list(names)
    require(not listed, f"{words}: {some(listed)}{advice}")


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether two predictions are equal up to rounding."""
    return torch.allclose(found, expected, rtol=RTOL, atol=ATOL)


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference."""
    return (found - expected).abs().max().item()


def share(found: Any, expected: Any) -> float:
    """The largest difference of tensors or arrays, as a share of the root mean square."""
    return float(abs(found - expected).max() / ((expected**2).mean() ** 0.5 or 1))


def equal(found: torch.Tensor, expected: torch.Tensor, words: str) -> None:
    """Raise AssertionError unless both are equal, bit for bit; ``{}`` in ``words`` is the largest difference."""
    require(torch.equal(found, expected), words.format(f"{distance(found, expected):.2g}"))


def changes(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Names of what is other, gone or new."""
    return [name for name in {**before, **after} if not _same(before.get(name), after.get(name))]


@dataclass(frozen=True)
class Anatomy:
    """A network's modules and tensors by name, and what they were."""

    modules: dict[str, nn.Module]
    hooks: dict[str, int]
    """How many hooks a module has; one more where its ``forward`` was replaced."""
    tensors: dict[str, torch.Tensor]
    """Parameters and buffers themselves."""
    values: dict[str, torch.Tensor]
    """Copies of them."""
    trained: dict[str, bool]
    """Whether they require a gradient."""


def anatomy(network: nn.Module) -> Anatomy:
    """What a network is made of now."""
    modules = dict(network.named_modules())
    tensors: dict[str, torch.Tensor] = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return Anatomy(
        modules,
        {name: _hooks(module) for name, module in modules.items()},
        tensors,
        {name: tensor.detach().clone() for name, tensor in tensors.items()},
        {name: tensor.requires_grad for name, tensor in tensors.items()},
    )


def changed_values(before: Anatomy) -> set[str]:
    """Names of the tensors that were there before and have other values now, wherever they are by now."""
    return {name for name, tensor in before.tensors.items() if not torch.equal(tensor, before.values[name])}


def differences(before: Anatomy, after: Anatomy) -> Iterator[str]:
    """In words, what of a network is not as it was."""
    modules = (before.modules, after.modules)
    values = (before.values, after.values)
    for kind, old, new in (("modules", *modules), ("parameters and buffers", *values)):
        if missing := old.keys() - new.keys():
            yield f"{kind} are gone: {some(missing)}"
        if left := new.keys() - old.keys():
            yield f"{kind} are left behind: {some(left)}"
    if replaced := [name for name in changes(*modules) if name in before.modules and name in after.modules]:
        yield f"modules are others than before: {some(name or 'the transformer itself' for name in replaced)}"
    if hooked := [name for name, count in before.hooks.items() if after.hooks.get(name, count) != count]:
        yield f"hooks or a replaced forward are left on {some(hooked)}"
    both = [name for name in before.values if name in after.values]
    if other := [name for name in both if not _same(before.values[name], after.values[name])]:
        yield f"values differ: {some(other)}"
    if flagged := [name for name in both if before.trained[name] != after.trained[name]]:
        yield f"requires_grad differs: {some(flagged)}"


def _hooks(module: nn.Module) -> int:
    kinds = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return sum(map(len, kinds)) + ("forward" in vars(module))


def _same(before: object, after: object) -> bool:
    if isinstance(before, torch.Tensor) and isinstance(after, torch.Tensor):
        return before.dtype == after.dtype and torch.equal(before, after)
    return before == after
