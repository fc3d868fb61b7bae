"""Routing each sample to one of several adapters: what methods with a static partition share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

from pydantic import Field, JsonValue, model_validator

from grasp_bench.contracts.method import Condition
from grasp_bench.contracts.recipe import ParameterKind
from grasp_bench.contracts.sized import SizedMethod, SizedSettings
from grasp_bench.errors import Skip

if TYPE_CHECKING:
    import numpy as np
    import torch

    from grasp_bench.adapters.partition import Partition
    from grasp_bench.contracts.backbone import Backbone
    from grasp_bench.contracts.study import Study
    from grasp_bench.contracts.task import ClassInfo, Split, Task, TaskSettings

MAP = "partition.json"
PICTURE = "partition.png"
COUNTED = ("class", "text", "gradient", "random")
"""Partitions into a number of clusters that can be chosen."""
OF_THE_TASK = ("group", "class")
"""Partitions that follow from the task's classes alone."""


class ClusterAdapterSettings(SizedSettings):
    """Settings of residual adapters, one per cluster."""

    learning_rate: float = Field(default=3e-2, gt=0, le=1)
    """Peak learning rate of AdamW; the best of six on validation images (`results/digits-lt/learning-rates.json`)"""
    rank: int | None = Field(default=16, ge=1, le=4096)
    """Bottleneck width of each cluster's adapter"""
    scale: float = Field(default=1.0, gt=0)
    """Factor on what the adapters add"""
    null_route: Literal["same", "base", "null"] = "same"
    """What serves a sample whose prompt is dropped: its own cluster, no adapter, or a cluster of all such samples"""


C_co = TypeVar("C_co", bound=SizedSettings, covariant=True)


class RoutedAdapters(SizedMethod[C_co]):
    """Base of methods that route each sample to one of several residual adapters in every layer of a kind.

    The backbone is frozen; a subclass says what the clusters are, and has settings of a rank and a scale.
    """

    kind: ParameterKind = "adapters"

    def partition(self, task: Task[TaskSettings]) -> Partition:
        """Which cluster serves each class of the task, or each of its images."""
        raise NotImplementedError

    def attach(self, backbone: Backbone, task: Task[TaskSettings], generator: torch.Generator) -> None:
        import torch

        self.transformer = backbone.transformer
        self.classes: Sequence[ClassInfo] = task.classes()
        self.map = self.partition(task)
        self.of_class = torch.tensor(list(self.map.classes.values()))
        self.add(backbone, self.find_size(backbone, task), generator)

    def add(self, backbone: Backbone, rank: int, generator: torch.Generator) -> None:
        """Put the adapters in: beside every feed-forward layer, unless a subclass has another place."""
        from grasp_bench.adapters.residual import add_adapters

        config: Any = self.config
        add_adapters(backbone, self.adapters(), rank, config.scale, generator)

    def widths(self, backbone: Backbone) -> int:
        """Parameters of one cluster's adapters in all layers together, per unit of rank."""
        from grasp_bench.adapters.inject import input_width

        return 2 * sum(map(input_width, backbone.feed_forwards().values()))

    def adapters(self) -> int:
        """Number of adapters in each layer."""
        raise NotImplementedError

    def count(self, backbone: Backbone, task: Task[TaskSettings]) -> Callable[[int], int]:
        self.map = self.partition(task)
        of_one_rank = self.adapters() * self.widths(backbone)
        return lambda rank: of_one_rank * rank

    def active_parameters(self) -> int:
        """Return the parameters of one adapter in each layer, and those that a loss on top may have added."""
        from grasp_bench.adapters.residual import RoutedAdapter

        layers = [each for each in self.transformer.modules() if isinstance(each, RoutedAdapter)]
        routed: int = sum(weight.numel() for layer in layers for weight in (*layer.down, *layer.up))
        return super().active_parameters() - routed + routed // self.adapters()

    def detach(self) -> None:
        from grasp_bench.adapters.inject import unwrap
        from grasp_bench.adapters.residual import RoutedAdapter

        unwrap(self.transformer, RoutedAdapter)

    def artifacts(self) -> dict[str, JsonValue]:
        return {MAP: self.map.to_json()}


class ClusterAdapters(RoutedAdapters[ClusterAdapterSettings]):
    """Base of methods with static routing to one residual adapter per cluster."""

    def adapters(self) -> int:
        return len(self.map.clusters) + (self.config.null_route == "null")

    def condition(self, condition: Condition) -> AbstractContextManager[object]:
        from grasp_bench.adapters.residual import BASE_ONLY, Route
        from grasp_bench.contracts.scope import scope
        from grasp_bench.known import on_host

        device = condition.labels.device
        own = self.of_class[on_host(condition.labels)] if condition.clusters is None else on_host(condition.clusters)
        if self.config.null_route != "same":
            null = BASE_ONLY if self.config.null_route == "base" else len(self.map.clusters)
            own = own.masked_fill(on_host(condition.dropped), null)
        return scope(Route.of(own, device))


class PartitionSettings(ClusterAdapterSettings):
    """Settings of adapters whose clusters are a partition that can be chosen."""

    null_route: Literal["same", "base", "null"] = "null"
    """What serves a sample whose prompt is dropped: its own cluster, no adapter, or a cluster of all such samples"""
    partition: Literal["group", "class", "text", "metadata", "gradient", "random"] = "group"
    """What a cluster is: a reporting group (healthy classes apart, where the task names some), a class or neighbours by
    train count, classes of like prompts, images of one value of `column`, classes of like gradients, or chance"""
    clusters: int | None = Field(default=None, ge=1, le=4096)
    """Clusters of partition class, text, gradient or random; none: one per class, or else as many as by group"""
    column: str | None = Field(default=None, pattern=r"^[^/\\]+$")  # it is part of a folder's name
    """What partition metadata goes by: a column that the task keeps of its training images, such as their view. Images
    of a class are generated in the cluster that most of its training images are in"""

    added: ClassVar[frozenset[str]] = ClusterAdapterSettings.added | {"partition", "clusters", "column"}

    @model_validator(mode="after")
    def _of_the_partition(self) -> Self:
        if self.clusters is not None and self.partition not in COUNTED:
            raise ValueError(f"clusters={self.clusters}: partition {self.partition} decides on it; leave it out")
        if self.partition == "metadata" and self.column is None:
            raise ValueError("partition=metadata: expected the name of a column, as in column=view")
        if self.column is not None and self.partition != "metadata":
            raise ValueError(f"column={self.column}: partition {self.partition} reads none; set partition=metadata")
        return self


def without_attention(backbone: Backbone) -> Skip | None:
    """Return why nothing can stand beside the attention's linear layers, or None."""
    from grasp_bench.adapters.residual import attention_widths

    if attention_widths(backbone):
        return None
    return Skip("the updates stand beside the attention's linear layers, and this backbone names none")


class PartitionedAdapters(ClusterAdapters):
    """Base of methods whose clusters are a partition of the task's classes or images, by settings."""

    config: PartitionSettings

    @property
    def studies(self) -> bool:
        return self.config.partition not in OF_THE_TASK

    def supports(self, backbone: Backbone, task: Task[TaskSettings]) -> Skip | None:
        """None. Raises :class:`UserError` for more clusters than classes, before anything is encoded or trained."""
        from grasp_bench.adapters.partition import cluster_count

        if self.config.partition in COUNTED:
            cluster_count(task, self.config.clusters)
        return None

    def study(self, study: Study) -> dict[str, JsonValue]:
        from grasp_bench.adapters import clustering

        kind, count = self.config.partition, self.config.clusters
        if kind == "metadata":
            assert self.config.column is not None
            found = clustering.by_metadata(study, self.config.column)
        else:
            ways = {"text": clustering.by_text, "gradient": clustering.by_gradient, "random": clustering.at_random}
            found = ways[kind](study, count)
        return {MAP: found.to_json()}

    def partition(self, task: Task[TaskSettings]) -> Partition:
        from grasp_bench.adapters.partition import Partition, by_class, by_group

        if self.studies:
            return Partition.from_json(self.studied[MAP])
        return by_group(task) if self.config.partition == "group" else by_class(task, self.config.clusters)

    def training_clusters(self, train: Split) -> np.ndarray | None:
        from grasp_bench.adapters.clustering import image_clusters

        return image_clusters(train, self.config.column)[0] if self.config.column is not None else None

    def pictures(self) -> dict[str, bytes]:
        from grasp_bench.adapters.partition import draw_partition

        rows = [f"{info.name}  {info.group} ({info.train_count})" for info in self.classes]
        title = f"partition by {self.config.partition}: training images of each class in each cluster"
        return {PICTURE: draw_partition(rows, self.map.clusters, self.map.composition(self.classes), title)}
