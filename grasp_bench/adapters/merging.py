"""Averaging the adapters of several clusters into one, in the weights alone."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch

OF_A_CLUSTER = re.compile(r"(?P<layer>.+)\.(?P<side>down|up)\.(?P<cluster>\d+)")
"""Name of a matrix of a :class:`~grasp_bench.adapters.residual.RoutedAdapter` in a state dict."""
Layers = dict[str, list[tuple[torch.Tensor, torch.Tensor]]]


def layers_of(state: Mapping[str, torch.Tensor]) -> Layers:
    """Layer → the matrices D_k (I, r) and U_k (r, O) of each cluster k, of a state that holds nothing else.

    Raises ValueError for any other name.
    """
    found: dict[str, dict[int, dict[str, torch.Tensor]]] = defaultdict(lambda: defaultdict(dict))
    for name, tensor in state.items():
        parts = OF_A_CLUSTER.fullmatch(name)
        if parts is None:
            raise ValueError(f"{name} belongs to no routed adapter")
        found[parts["layer"]][int(parts["cluster"])][parts["side"]] = tensor
    return {
        layer: [(clusters[number]["down"], clusters[number]["up"]) for number in sorted(clusters)]
        for layer, clusters in found.items()
    }


def merged(state: Mapping[str, torch.Tensor], weights: Sequence[float]) -> dict[str, torch.Tensor]:
    """Adapters of as many clusters as there are ``weights`` w_k as one, and those of further clusters as they are.

    It is exact: Σ_k w_k gelu(x D_k) U_k = gelu(x [D_1 … D_K]) [w_1 U_1; …; w_K U_K], one bottleneck as wide as all of
    them together. Matrices of different bottlenecks are not averaged elementwise: their units have nothing in common.
    """
    count, result = len(weights), dict[str, torch.Tensor]()
    for layer, adapters in layers_of(state).items():
        ups = [weight * up for weight, (_, up) in zip(weights, adapters[:count], strict=True)]
        one = torch.cat([down for down, _ in adapters[:count]], 1), torch.cat(ups)
        for number, (down, up) in enumerate([one, *adapters[count:]]):
            result |= {f"{layer}.down.{number}": down, f"{layer}.up.{number}": up}
    return result


def similarities(state: Mapping[str, torch.Tensor], clusters: int) -> list[float]:
    """The cosine between what each of the first clusters' adapters adds and the mean of them, at least 0.

    What an adapter adds is its matrix D_k U_k in all layers together, the update to first order but for a factor. All
    are 1 where the mean is zero, as before any training.
    """
    products = torch.zeros(clusters, clusters, dtype=torch.float64)
    for adapters in layers_of(state).values():
        pairs = [(down.double().cpu(), up.double().cpu()) for down, up in adapters[:clusters]]
        for row, (down, up) in enumerate(pairs):
            for column, (other_down, other_up) in enumerate(pairs):
                products[row, column] += ((down.T @ other_down) * (up @ other_up.T)).sum()
    with_mean, mean = products.mean(1), products.mean()
    if mean <= 0:
        return [1.0] * clusters
    lengths = products.diagonal().clamp(min=torch.finfo(torch.float64).tiny).sqrt()
    found: list[float] = (with_mean / (lengths * mean.sqrt())).clamp(min=0).tolist()
    return found
