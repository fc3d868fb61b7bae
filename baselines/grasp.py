"""GRASP: group-routed residual adapters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from grasp_bench.contracts.method import MethodSettings

from .routed import (
    ClusterAdapters,
    ClusterAdapterSettings,
    PartitionedAdapters,
    PartitionSettings,
    without_attention,
)

if TYPE_CHECKING:
    import torch

    from grasp_bench.adapters.partition import Partition
    from grasp_bench.contracts.backbone import Backbone
    from grasp_bench.contracts.task import Task, TaskSettings
    from grasp_bench.errors import Skip

RANKS = {"ff": 12, "attention": 3, "both": 2}
"""Place of the adapters → rank by default: on tiny-sd3 each has about as many parameters as the others."""


class GraspSettings(PartitionSettings):
    """Settings of GRASP."""

    rank: int | None = Field(default=RANKS["ff"], ge=1, le=4096)
    """Bottleneck width of each adapter; three clusters and the one of dropped prompts are 48 wide together. By default
    3 with place=attention and 2 with both, which have 11 % more and 10 % fewer parameters on tiny-sd3"""
    place: Literal["ff", "attention", "both"] = "ff"
    """What the adapters stand beside: every feed-forward layer, every linear layer of the attention, or both"""

    added: ClassVar[frozenset[str]] = PartitionSettings.added | {"place"}
    searched_with: ClassVar[frozenset[str]] = frozenset({"place"})

    @model_validator(mode="wrap")
    @classmethod
    def _width_at_the_place(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Let the default of the rank be that of the place."""
        if values.get("place") not in RANKS or {"rank", "parameters"} & values.keys():
            return handler(values)
        settings = handler({"rank": RANKS[values["place"]]} | values)
        settings.model_fields_set.discard("rank")
        return settings


class Grasp(PartitionedAdapters):
    """GRASP: frozen backbone, one residual adapter per cluster in every feed-forward layer, static routing

    By default a sample whose prompt is dropped has an adapter of its own, so that the unconditional branch of guidance
    is a model of all training images. With null_route=same, as in version 1, that branch knows the cluster, and
    guidance amplifies less of what distinguishes clusters: without any prompt 76 % of its images were of their label's
    group, 31 % with null and 33 % with base, whose images are the pretrained model's (three seeds of digits-lt).

    With place=attention or both, adapters of the same shape stand beside every linear layer of the attention, with as
    many parameters in all: against place=ff they tell what the place is worth, and against cluster-lora what the
    bottleneck's nonlinearity is.
    """

    Config: ClassVar[type[MethodSettings]] = GraspSettings
    config: GraspSettings
    version = "2"
    paper = (
        "GRASP, arXiv 2512.01675. We know the abstracts of both versions, and an account of the first: the static "
        "partition, by priors and not by a gate, the parallel residual adapters in every feed-forward layer, the "
        "frozen backbone and clusters of head, medium, tail and healthy samples are the paper's; the adapter's shape "
        "(a GELU bottleneck without biases), all other ways to partition, the adapter of dropped prompts and every "
        "default of sizes and rates are our own choices"
    )

    def supports(self, backbone: Backbone, task: Task[TaskSettings]) -> Skip | None:
        missing = without_attention(backbone) if self.config.place != "ff" else None
        return missing or super().supports(backbone, task)

    def add(self, backbone: Backbone, rank: int, generator: torch.Generator) -> None:
        from grasp_bench.adapters.residual import add_attention_adapters

        if self.config.place != "attention":
            super().add(backbone, rank, generator)
        if self.config.place != "ff":
            add_attention_adapters(backbone, self.adapters(), rank, self.config.scale, generator)

    def widths(self, backbone: Backbone) -> int:
        from grasp_bench.adapters.residual import attention_widths

        feed_forward = super().widths(backbone) if self.config.place != "attention" else 0
        return feed_forward + (attention_widths(backbone) if self.config.place != "ff" else 0)


class SharedAdapterSettings(ClusterAdapterSettings):
    """Settings of the shared adapter."""

    rank: int | None = Field(default=48, ge=1, le=4096)
    """Bottleneck width; 48 is the sum of GRASP's four adapters at their default, 12 one of them, with control=active"""
    control: Literal["total", "active"] = "total"
    """What is equal to GRASP's by default: the width of all its adapters together, or of the one that a sample uses"""

    added: ClassVar[frozenset[str]] = ClusterAdapterSettings.added | {"control"}

    @model_validator(mode="wrap")
    @classmethod
    def _width_of_one(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Let the default be GRASP's own with control=active."""
        if values.get("control") != "active" or {"rank", "parameters"} & values.keys():
            return handler(values)
        settings = handler({"rank": GraspSettings().rank} | values)
        settings.model_fields_set.discard("rank")
        return settings


class SharedAdapter(ClusterAdapters):
    """GRASP without its partition: one residual adapter of the same total width serves every sample

    With control=active it is as wide as the one adapter of GRASP's that a sample uses: the former has as many trainable
    parameters, the latter as many at work for each image.
    """

    Config: ClassVar[type[MethodSettings]] = SharedAdapterSettings
    config: SharedAdapterSettings
    version = "1"
    paper = "our ablation of GRASP (arXiv 2512.01675); a parallel adapter after He et al. 2021, arXiv 2110.04366"

    def partition(self, task: Task[TaskSettings]) -> Partition:
        from grasp_bench.adapters.partition import single

        return single(task)

    def count(self, backbone: Backbone, task: Task[TaskSettings]) -> Callable[[int], int]:
        """Its own or, with control=active, those of GRASP by default, whose adapters are then as wide as this one."""
        if self.config.control == "total":
            return super().count(backbone, task)
        return Grasp(GraspSettings()).count(backbone, task)
