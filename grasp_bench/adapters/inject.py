"""Wrapping a transformer's layers in place, and unwrapping them."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def wrap(transformer: nn.Module, names: list[str], make: Callable[[nn.Module], nn.Module]) -> None:
    """Replace each named module by ``make(module)``, which must keep the original as ``base_layer``."""
    for name in names:
        parent, _, child = name.rpartition(".")
        original = transformer.get_submodule(name)
        wrapped = make(original).train(original.training)
        setattr(transformer.get_submodule(parent), child, wrapped)


def unwrap(transformer: nn.Module, kind: type[nn.Module]) -> None:
    """Put back the ``base_layer`` of every module of ``kind``."""
    for name, module in list(transformer.named_modules()):
        if isinstance(module, kind):
            parent, _, child = name.rpartition(".")
            setattr(transformer.get_submodule(parent), child, module.base_layer)


def input_width(feed_forward: nn.Module) -> int:
    """Width of the tokens a feed-forward layer reads: that of its first linear layer or convolution."""
    first = next(module for module in feed_forward.modules() if isinstance(module, nn.Linear | nn.Conv2d))
    return first.in_features if isinstance(first, nn.Linear) else first.in_channels
