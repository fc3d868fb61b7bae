"""Wrapping a transformer's layers in place, unwrapping them, and what a feed-forward layer reads."""

from __future__ import annotations

from collections.abc import Callable

import torch
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


def channels_first(feed_forward: nn.Module) -> bool:
    """Whether it is convolutional, as Sana's, and so reads (B, C, H, W) where others read (B, N, C)."""
    return any(isinstance(module, nn.Conv2d) for module in feed_forward.modules())


def on_tokens(
    residual: Callable[[torch.Tensor], torch.Tensor], hidden_states: torch.Tensor, channels_first: bool
) -> torch.Tensor:
    """``residual``, which reads and gives (B, N, C), of hidden states in either layout, in that layout."""
    if not channels_first:
        return residual(hidden_states)
    tokens = hidden_states.flatten(2).transpose(1, 2)  # (B, H·W, C)
    return residual(tokens).transpose(1, 2).reshape(hidden_states.shape)
