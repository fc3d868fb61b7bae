"""The route of a batch: which cluster's adapter serves each sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from grasp_bench.contracts.scope import current_scope

BASE_ONLY = -1
"""The cluster of samples that no adapter serves."""


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
    def of(cls, clusters: torch.Tensor) -> Route:
        """The route for cluster indices (B,); :data:`BASE_ONLY` leaves a sample to the base layer."""
        order = torch.argsort(clusters, stable=True)
        present, counts = torch.unique_consecutive(clusters[order], return_counts=True)
        stops = counts.cumsum(0).tolist()
        starts = [0, *stops[:-1]]
        inverse = torch.argsort(order)
        segment_of = torch.arange(len(present), device=clusters.device).repeat_interleave(counts)[inverse]
        return cls(order, inverse, tuple(zip(present.tolist(), starts, stops, strict=True)), segment_of)


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
