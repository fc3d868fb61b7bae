"""A low-rank expert beside a linear layer, which a forward pass may leave out."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from grasp_bench.contracts.scope import in_scope

WITHOUT_EXPERT = "without expert"
"""The scope of a forward pass by the general weights alone."""


class LowRankExpert(nn.Module):
    """W x + B A x, for a linear layer W (out, in); W x within the scope :data:`WITHOUT_EXPERT`.

    ``B`` starts at zero, so the output starts equal to the base layer's.
    """

    def __init__(self, base_layer: nn.Module, rank: int, generator: torch.Generator) -> None:
        """``base_layer`` is a linear layer, or what another method has wrapped one in."""
        super().__init__()
        self.base_layer = base_layer
        inputs, outputs = widths(base_layer)
        self.down = nn.Parameter(torch.randn(inputs, rank, generator=generator) * inputs**-0.5)
        self.up = nn.Parameter(torch.zeros(rank, outputs))

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """(B, N, in) → (B, N, out)."""
        output: torch.Tensor = self.base_layer(hidden_states, *args, **kwargs)
        if in_scope(WITHOUT_EXPERT):
            return output
        return output + hidden_states @ self.down @ self.up


def widths(layer: Any) -> tuple[int, int]:
    """Input and output width of a linear layer, or of the one that a wrapper keeps as ``base_layer``."""
    while hasattr(layer, "base_layer"):
        layer = layer.base_layer
    return int(layer.in_features), int(layer.out_features)
