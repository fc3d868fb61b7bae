"""What a network is made of at a moment, and in words what of it has changed since."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn


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
    for kind, old, new in (
        ("modules", before.modules, after.modules),
        ("parameters and buffers", before.values, after.values),
    ):
        if missing := old.keys() - new.keys():
            yield f"{kind} are gone: {some(missing)}"
        if left := new.keys() - old.keys():
            yield f"{kind} are left behind: {some(left)}"
    replaced = [name for name, module in before.modules.items() if after.modules.get(name, module) is not module]
    if replaced:
        yield f"modules are others than before: {some(name or 'the transformer itself' for name in replaced)}"
    hooked = [name for name, count in before.hooks.items() if after.hooks.get(name, count) != count]
    if hooked:
        yield f"hooks or a replaced forward are left on {some(hooked)}"
    both = [name for name in before.values if name in after.values]
    if other := [name for name in both if not _same(before.values[name], after.values[name])]:
        yield f"values differ: {some(other)}"
    if flagged := [name for name in both if before.trained[name] != after.trained[name]]:
        yield f"requires_grad differs: {some(flagged)}"


def some(names: Iterable[str]) -> str:
    """The first few names, and how many there are."""
    ordered = sorted(names)
    return ", ".join(ordered[:3]) + (f" and {len(ordered) - 3} more" if len(ordered) > 3 else "")


def _hooks(module: nn.Module) -> int:
    kinds = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return sum(map(len, kinds)) + ("forward" in vars(module))


def _same(before: torch.Tensor, after: torch.Tensor) -> bool:
    return before.dtype == after.dtype and torch.equal(before, after)
