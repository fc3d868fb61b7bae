"""LoRA per cluster: GRASP's partition on the attention's linear layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from grasp_bench.contracts.method import MethodSettings
from grasp_bench.contracts.recipe import ParameterKind

from .routed import PartitionedAdapters, PartitionSettings, without_attention

if TYPE_CHECKING:
    import torch

    from grasp_bench.contracts.backbone import Backbone
    from grasp_bench.contracts.task import Task, TaskSettings
    from grasp_bench.errors import Skip


class ClusterLoraSettings(PartitionSettings):
    """Settings of LoRA per cluster."""

    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    """Peak learning rate of AdamW; LoRA's, not chosen for this method"""
    rank: int | None = Field(default=3, ge=1, le=4096)
    """Width of each cluster's update; four of 3 have 11 % more parameters than GRASP's adapters on tiny-sd3"""
    scale: float = Field(default=1.0, gt=0)
    """Factor on the updates: alpha / rank of LoRA"""


class ClusterLora(PartitionedAdapters):
    """LoRA per cluster: one low-rank update of every attention projection for each cluster of GRASP's, static routing

    Against lora it tells what routing is worth where LoRA stands, and against grasp what the place and the form of the
    adapters are.
    """

    Config: ClassVar[type[MethodSettings]] = ClusterLoraSettings
    config: ClusterLoraSettings
    kind: ParameterKind = "low rank"
    version = "1"
    paper = (
        "our crossing of GRASP's partition (arXiv 2512.01675) with LoRA (Hu et al. 2021, arXiv 2106.09685): the layers "
        "are those of our LoRA, the routing is our GRASP's; A is drawn from a normal distribution of variance "
        "1 / width, three times that of lora's"
    )

    def supports(self, backbone: Backbone, task: Task[TaskSettings]) -> Skip | None:
        return without_attention(backbone) or super().supports(backbone, task)

    def add(self, backbone: Backbone, rank: int, generator: torch.Generator) -> None:
        from grasp_bench.adapters.residual import RoutedLora, add_attention_adapters

        add_attention_adapters(backbone, self.adapters(), rank, self.config.scale, generator, RoutedLora)

    def widths(self, backbone: Backbone) -> int:
        from grasp_bench.adapters.residual import attention_widths

        return attention_widths(backbone)
