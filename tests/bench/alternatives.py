"""The other ways to serve a mixed batch with one adapter a cluster; all compute what routed adapters compute."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

from grasp_bench.adapters.inject import wrap
from grasp_bench.adapters.partition import Partition
from grasp_bench.adapters.residual import RoutedAdapter
from grasp_bench.baselines.grasp import Grasp, GraspSettings
from grasp_bench.contracts.backbone import Backbone
from grasp_bench.contracts.method import Batch, Condition, Method, MethodSettings
from grasp_bench.contracts.scope import current_scope, scope
from grasp_bench.contracts.task import Task, TaskSettings

LEARNING_RATE = 1e-4  # changes no time, and nothing diverges on random weights


class Routed(Grasp):
    """GRASP with any number of clusters, one a class, and adapters that already add something."""

    def __init__(self, clusters: int, rank: int) -> None:
        super().__init__(GraspSettings(learning_rate=LEARNING_RATE, rank=rank))
        self.count = clusters

    def partition(self, task: Task[TaskSettings]) -> Partition:
        names = tuple(f"cluster {number}" for number in range(self.count))
        return Partition(names, {name: number for number, name in enumerate(names)})

    def attach(self, backbone: Backbone, task: Task[TaskSettings], generator: torch.Generator) -> None:
        super().attach(backbone, task, generator)
        for module in self.transformer.modules():
            if isinstance(module, RoutedAdapter):
                for up in module.up:
                    up.data.copy_(torch.randn(up.shape, generator=generator) * len(up) ** -0.5)


class Stacked(nn.Module):
    """The adapters of all clusters in two tensors: a cluster that is absent has a gradient, of zeros."""

    def __init__(self, routed: RoutedAdapter) -> None:
        super().__init__()
        self.base_layer = routed.base_layer
        self.scale = routed.scale
        self.down = nn.Parameter(_stack(routed.down))  # (K, D, R)
        self.up = nn.Parameter(_stack(routed.up))  # (K, R, D)

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """(B, N, D) → (B, N, D); the clusters (B,) are in scope."""
        output: torch.Tensor = self.base_layer(hidden_states, *args, **kwargs)
        return output + self.scale * self.residual(hidden_states, current_scope())

    def residual(self, hidden_states: torch.Tensor, clusters: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


def _stack(parameters: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.stack([parameter.detach() for parameter in parameters])


class Gathered(Stacked):
    """Each sample's own copy of its cluster's weights, in batched products."""

    def residual(self, hidden_states: torch.Tensor, clusters: torch.Tensor) -> torch.Tensor:
        hidden = functional.gelu(torch.bmm(hidden_states, self.down[clusters]))
        return torch.bmm(hidden, self.up[clusters])


class Dense(Stacked):
    """Every adapter on every sample, and a mask that keeps one of them."""

    def residual(self, hidden_states: torch.Tensor, clusters: torch.Tensor) -> torch.Tensor:
        count, width, rank = self.down.shape
        hidden = functional.gelu(hidden_states @ self.down.transpose(0, 1).reshape(width, count * rank))
        mask = functional.one_hot(clusters, count).to(hidden).repeat_interleave(rank, 1)  # (B, K·R)
        return (hidden * mask[:, None]) @ self.up.reshape(count * rank, width)


class RoutedBy(Routed):
    """The same adapters, served in another way."""

    layer: ClassVar[type[Stacked]]

    def attach(self, backbone: Backbone, task: Task[TaskSettings], generator: torch.Generator) -> None:
        names = list(backbone.feed_forwards())
        super().attach(backbone, task, generator)
        wrap(self.transformer, names, self.layer)

    def condition(self, condition: Condition) -> AbstractContextManager[object]:
        return scope(condition.labels)  # a class is a cluster


class RoutedByGathering(RoutedBy):
    layer = Gathered


class RoutedByMask(RoutedBy):
    layer = Dense


def predict_by_cluster(backbone: Backbone, method: Method[MethodSettings], batch: Batch) -> torch.Tensor:
    """A forward pass for each cluster that the batch has samples of."""
    condition, output = batch.condition, torch.empty_like(batch.noisy)
    for cluster in condition.labels.unique():
        rows = (condition.labels == cluster).nonzero()[:, 0]
        own = Condition(
            condition.labels[rows], condition.dropped[rows], condition.prompts[rows], condition.timesteps[rows]
        )
        with method.condition(own):
            predicted = backbone.predict(batch.noisy[rows], own.timesteps, own.prompts)
        output = output.index_copy(0, rows, predicted)
    return output
