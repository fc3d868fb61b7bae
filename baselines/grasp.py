"""GRASP: group-routed residual adapters."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, JsonValue

from grasp_bench.method import Condition, Method, MethodSettings

if TYPE_CHECKING:
    import torch

    from grasp_bench.adapters.partition import Partition
    from grasp_bench.backbones.base import Backbone
    from grasp_bench.task import Task, TaskSettings


class GraspSettings(MethodSettings):
    """Settings of GRASP."""

    learning_rate: float = Field(default=3e-2, gt=0, le=1)
    """Peak learning rate of AdamW; the best of six on validation images (`results/digits-lt/learning-rates.json`)"""
    rank: int = Field(default=16, ge=1, le=4096)
    """Bottleneck width of each cluster's adapter"""
    scale: float = Field(default=1.0, gt=0)
    """Factor on what the adapters add"""
    null_route: Literal["same", "base", "null"] = "same"
    """Who serves a sample whose prompt is dropped: its own cluster, no adapter, or a null cluster of its own"""


class Grasp(Method[GraspSettings]):
    """GRASP: frozen backbone, one residual adapter a cluster in every feed-forward layer, static routing"""

    Config: ClassVar[type[MethodSettings]] = GraspSettings
    version = "1"
    paper = (
        "GRASP, arXiv 2512.01675. We know its abstract: the static partition, the adapters in every feed-forward layer "
        "and the absence of a gate are the paper's; the adapter's shape (a parallel GELU bottleneck without biases), "
        "the partition by reporting group and every default are our own choices"
    )

    def partition(self, task: Task[TaskSettings]) -> Partition:
        """Which cluster serves each class of the task."""
        from grasp_bench.adapters.partition import by_group

        return by_group(task)

    def attach(self, backbone: Backbone, task: Task[TaskSettings], generator: torch.Generator) -> None:
        import torch

        from grasp_bench.adapters.inject import input_width, wrap
        from grasp_bench.adapters.residual import RoutedAdapter

        self.transformer = backbone.transformer
        self.map = self.partition(task)
        self.clusters = torch.tensor(list(self.map.classes.values()))
        count = len(self.map.clusters) + (self.config.null_route == "null")
        rank, scale = self.config.rank, self.config.scale
        wrap(
            self.transformer,
            list(backbone.feed_forwards()),
            lambda layer: RoutedAdapter(layer, input_width(layer), count, rank, scale, generator),
        )

    def detach(self) -> None:
        from grasp_bench.adapters.inject import unwrap
        from grasp_bench.adapters.residual import RoutedAdapter

        unwrap(self.transformer, RoutedAdapter)

    def condition(self, condition: Condition) -> AbstractContextManager[object]:
        from grasp_bench.adapters.routing import BASE_ONLY, Route
        from grasp_bench.adapters.scope import scope

        clusters = self.clusters.to(condition.labels.device)[condition.labels]
        if self.config.null_route != "same":
            null = BASE_ONLY if self.config.null_route == "base" else len(self.map.clusters)
            clusters = clusters.masked_fill(condition.dropped, null)
        return scope(Route.of(clusters))

    def artifacts(self) -> dict[str, JsonValue]:
        return {"partition.json": self.map.to_json()}
