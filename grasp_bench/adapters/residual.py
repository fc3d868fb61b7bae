"""Residual adapters beside the feed-forward layers, one per cluster, and the route of a batch through them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from grasp_bench.adapters.inject import channels_first, input_width, on_tokens, wrap
from grasp_bench.contracts.scope import current_scope, in_scope
from grasp_bench.known import on_host
from grasp_bench.processes import sent

if TYPE_CHECKING:
    from grasp_bench.contracts.backbone import Backbone

MOST_GROUPED = 8  # clusters; measured on a CPU, where batched products are quicker from there on
BASE_ONLY = -1
"""The cluster of samples that no adapter serves."""
WITHOUT_EXPERT = "without expert"
"""The scope of a forward pass by the general weights alone."""


@dataclass(frozen=True)
class Route:
    """Clusters of a batch, sorted once so that every layer serves each cluster's samples as one slice."""

    order: torch.Tensor
    """(B,): sample at each sorted position."""
    inverse: torch.Tensor
    """(B,): sorted position of each sample."""
    segments: tuple[tuple[int, int, int], ...]
    """(cluster, start, stop) in sorted positions, ascending; clusters that are absent have none."""
    segment_of: torch.Tensor
    """(B,): index of each sample's segment."""

    @classmethod
    def of(cls, clusters: torch.Tensor, device: torch.device | None = None) -> Route:
        """The route for cluster indices (B,) of a forward pass on ``device``, by default theirs.

        :data:`BASE_ONLY` leaves a sample to the base layer. Indices on the CPU, or that
        :func:`~grasp_bench.known.on_host` knows, make nothing wait for the device.
        """
        device, clusters = device or clusters.device, on_host(clusters)
        order = torch.argsort(clusters, stable=True)
        present, counts = torch.unique_consecutive(clusters[order], return_counts=True)
        stops = counts.cumsum(0).tolist()
        starts = [0, *stops[:-1]]
        inverse = torch.argsort(order)
        segment_of = torch.arange(len(present)).repeat_interleave(counts)[inverse]
        segments = tuple(zip(present.tolist(), starts, stops, strict=True))
        return cls(sent(order, device), sent(inverse, device), segments, sent(segment_of, device))


def current_route(batch_size: int) -> Route:
    """The route of the running forward pass.

    Raises RuntimeError when there is none or it is of another batch: any default would train the wrong cluster.
    """
    route = current_scope()
    if not isinstance(route, Route):
        raise RuntimeError("a routed adapter ran without a route: wrap the forward pass in the method's condition()")
    if len(route.order) != batch_size:
        raise RuntimeError(f"the route is for {len(route.order)} samples, but the forward pass has {batch_size}")
    return route


class RoutedAdapter(nn.Module):
    """A layer plus the bottleneck adapter of each sample's cluster: f(x) + scale · gelu(x D_k) U_k.

    ``U`` starts at zero, so the output starts equal to the base layer's. Every cluster has parameters of its own
    rather than a slice of a stacked tensor: a cluster that is absent from a batch then has no gradient at all, and
    any optimiser leaves both its weights and its state untouched.
    """

    def __init__(
        self,
        base_layer: nn.Module,
        width: int,
        clusters: int,
        rank: int,
        scale: float,
        generator: torch.Generator,
        outputs: int | None = None,
    ) -> None:
        """``width`` is what the layer reads, and ``outputs`` what it gives, where that differs."""
        super().__init__()
        self.base_layer = base_layer
        self.channels_first = channels_first(base_layer)
        self.scale = scale
        self.down = nn.ParameterList(
            nn.Parameter(torch.randn(width, rank, generator=generator) * width**-0.5) for _ in range(clusters)
        )
        self.up = nn.ParameterList(nn.Parameter(torch.zeros(rank, outputs or width)) for _ in range(clusters))

    def activation(self, inner: torch.Tensor) -> torch.Tensor:
        """What stands between both matrices, elementwise."""
        return functional.gelu(inner)

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """(B, N, I) → (B, N, O), or (B, D, H, W) → (B, D, H, W) of a convolutional layer, under the current route."""
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
            return self._of_cluster(hidden_states, cluster)
        if len(route.segments) > MOST_GROUPED:
            hidden = self.activation(torch.bmm(hidden_states, _gathered(self.down, route)))
            return torch.bmm(hidden, _gathered(self.up, route))
        # split rather than sliced: the gradient of one slice is as large as the batch, and there are many clusters
        parts = hidden_states.index_select(0, route.order).split([stop - start for _, start, stop in route.segments])
        clusters = [cluster for cluster, _, _ in route.segments]
        outputs = [self._of_cluster(part, cluster) for part, cluster in zip(parts, clusters, strict=True)]
        return torch.cat(outputs).index_select(0, route.inverse)

    def _of_cluster(self, hidden_states: torch.Tensor, cluster: int) -> torch.Tensor:
        """(n, N, I) → (n, N, O), samples of one cluster; zeros without an adapter."""
        return _product(self.activation(_product(hidden_states, self.down, cluster)), self.up, cluster)


class RoutedLora(RoutedAdapter):
    """W x plus the low-rank update of each sample's cluster, scale · x A_k B_k, for a linear layer W."""

    def activation(self, inner: torch.Tensor) -> torch.Tensor:
        """Nothing: the update is linear."""
        return inner


def add_adapters(backbone: Backbone, clusters: int, rank: int, scale: float, generator: torch.Generator) -> None:
    """Put a :class:`RoutedAdapter` in the place of every feed-forward layer of the transformer."""

    def adapted(layer: nn.Module) -> RoutedAdapter:
        return RoutedAdapter(layer, input_width(layer), clusters, rank, scale, generator)

    wrap(backbone.transformer, list(backbone.feed_forwards()), adapted)


def add_attention_adapters(
    backbone: Backbone,
    clusters: int,
    rank: int,
    scale: float,
    generator: torch.Generator,
    kind: type[RoutedAdapter] = RoutedAdapter,
) -> None:
    """Put a ``kind`` of adapter in the place of every linear layer of the transformer's attention."""

    def adapted(layer: nn.Module) -> RoutedAdapter:
        inputs, outputs = widths(layer)
        return kind(layer, inputs, clusters, rank, scale, generator, outputs)

    wrap(backbone.transformer, attention_layers(backbone), adapted)


def attention_widths(backbone: Backbone) -> int:
    """Input and output widths of every linear layer of the attention, summed."""
    return sum(sum(widths(backbone.transformer.get_submodule(name))) for name in attention_layers(backbone))


def attention_layers(backbone: Backbone) -> list[str]:
    """Names of every linear layer of the transformer's attention."""
    names = [name for name, _ in backbone.transformer.named_modules()]
    return [name for name in names if name.endswith(backbone.attention_projections)]


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
