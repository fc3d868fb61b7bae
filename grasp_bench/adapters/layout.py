"""Where the channels are in what a feed-forward layer reads."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


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
