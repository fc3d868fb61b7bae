"""Residual adapters beside the feed-forward layers, one per cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from grasp_bench.adapters.inject import input_width, wrap
from grasp_bench.adapters.layout import channels_first, on_tokens
from grasp_bench.adapters.routing import BASE_ONLY, Route, current_route

if TYPE_CHECKING:
    from grasp_bench.contracts.backbone import Backbone

MOST_GROUPED = 8  # clusters; measured on a CPU, where batched products are quicker from there on


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
        self.channels_first = channels_first(base_layer)
        self.scale = scale
        self.down = nn.ParameterList(
            nn.Parameter(torch.randn(width, rank, generator=generator) * width**-0.5) for _ in range(clusters)
        )
        self.up = nn.ParameterList(nn.Parameter(torch.zeros(rank, width)) for _ in range(clusters))

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """(B, N, D) → (B, N, D), or (B, D, H, W) → (B, D, H, W) of a convolutional layer, under the current route."""
        output: torch.Tensor = self.base_layer(hidden_states, *args, **kwargs)
        return output + self.scale * on_tokens(self.residual, hidden_states, self.channels_first)

    @torch.compiler.disable  # type: ignore[untyped-decorator] # every batch has a route of its own
    def residual(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """What the adapters add, before scaling; cost follows the samples, not the clusters.

        Samples of few clusters are grouped, one product per cluster. With many, each cluster has few samples and small
        products take longer than one batched product of each sample with its own copy of its cluster's matrix.
        """
        route = current_route(len(hidden_states))
        if len(route.segments) == 1:
            [(cluster, _, _)] = route.segments
            return _product(functional.gelu(_product(hidden_states, self.down, cluster)), self.up, cluster)
        if len(route.segments) > MOST_GROUPED:
            hidden = functional.gelu(torch.bmm(hidden_states, _gathered(self.down, route)))
            return torch.bmm(hidden, _gathered(self.up, route))
        grouped = hidden_states.index_select(0, route.order)
        hidden = functional.gelu(_grouped_product(grouped, self.down, route))
        return _grouped_product(hidden, self.up, route).index_select(0, route.inverse)


def add_adapters(backbone: Backbone, clusters: int, rank: int, scale: float, generator: torch.Generator) -> None:
    """Put a :class:`RoutedAdapter` in the place of every feed-forward layer of the transformer."""

    def adapted(layer: nn.Module) -> RoutedAdapter:
        return RoutedAdapter(layer, input_width(layer), clusters, rank, scale, generator)

    wrap(backbone.transformer, list(backbone.feed_forwards()), adapted)


def _grouped_product(grouped: torch.Tensor, weights: nn.ParameterList, route: Route) -> torch.Tensor:
    """(B, N, I) in sorted order → (B, N, O): each sample times the matrix (I, O) of its cluster."""
    # split rather than sliced: the gradient of one slice is as large as the batch, and there are many clusters
    parts = grouped.split([stop - start for _, start, stop in route.segments])
    clusters = [cluster for cluster, _, _ in route.segments]
    return torch.cat([_product(part, weights, cluster) for part, cluster in zip(parts, clusters, strict=True)])


def _gathered(weights: nn.ParameterList, route: Route) -> torch.Tensor:
    """(B, I, O): each sample's matrix; zeros without an adapter."""
    present = [
        weights[0].new_zeros(weights[0].shape) if cluster == BASE_ONLY else weights[cluster]
        for cluster, _, _ in route.segments
    ]
    return torch.stack(present).index_select(0, route.segment_of)


def _product(hidden_states: torch.Tensor, weights: nn.ParameterList, cluster: int) -> torch.Tensor:
    """(n, N, I) → (n, N, O), samples of one cluster; zeros without an adapter."""
    if cluster == BASE_ONLY:
        return hidden_states.new_zeros(*hidden_states.shape[:-1], weights[0].shape[-1])
    product: torch.Tensor = hidden_states @ weights[cluster]
    return product
