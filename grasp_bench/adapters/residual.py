"""Residual adapters beside the feed-forward layers, one a cluster."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from grasp_bench.adapters.routing import BASE_ONLY, Route, current_route


class RoutedAdapter(nn.Module):
    """A feed-forward layer plus the bottleneck adapter of each sample's cluster: f(x) + scale · gelu(x D_k) U_k.

    ``U`` starts at zero, so the output starts equal to the base layer's. Every cluster has parameters of its own
    rather than a slice of a stacked tensor: a cluster that is absent from a batch then has no gradient at all, and
    any optimiser leaves both its weights and its state untouched.
    """

    def __init__(
        self, base_layer: nn.Module, width: int, clusters: int, rank: int, scale: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.scale = scale
        self.down = nn.ParameterList(
            nn.Parameter(torch.randn(width, rank, generator=generator) * width**-0.5) for _ in range(clusters)
        )
        self.up = nn.ParameterList(nn.Parameter(torch.zeros(rank, width)) for _ in range(clusters))

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """(B, N, D) → (B, N, D), under the current route."""
        route = current_route(len(hidden_states))
        output: torch.Tensor = self.base_layer(hidden_states, *args, **kwargs)
        return output + self.scale * self.residual(hidden_states, route)

    def residual(self, hidden_states: torch.Tensor, route: Route) -> torch.Tensor:
        """What the adapters add, before scaling: samples are grouped by cluster, so cost follows the samples."""
        if len(route.segments) == 1:
            return self._adapter(route.segments[0][0], hidden_states)
        grouped = hidden_states.index_select(0, route.order)
        parts = [self._adapter(cluster, grouped[start:stop]) for cluster, start, stop in route.segments]
        return torch.cat(parts).index_select(0, route.inverse)

    def _adapter(self, cluster: int, hidden_states: torch.Tensor) -> torch.Tensor:
        if cluster == BASE_ONLY:
            return torch.zeros_like(hidden_states)
        added: torch.Tensor = functional.gelu(hidden_states @ self.down[cluster]) @ self.up[cluster]
        return added
