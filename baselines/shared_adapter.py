"""The ablation of GRASP's routing: one adapter of the same total width."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from grasp_bench.contracts.method import MethodSettings

from .grasp import ClusterAdapters, ClusterAdapterSettings

if TYPE_CHECKING:
    from grasp_bench.adapters.partition import Partition
    from grasp_bench.contracts.task import Task, TaskSettings


class SharedAdapterSettings(ClusterAdapterSettings):
    """Settings of the shared adapter."""

    learning_rate: float = Field(default=3e-2, gt=0, le=1)
    """Peak learning rate of AdamW; the best of six on validation images (`results/digits-lt/learning-rates.json`)"""
    rank: int = Field(default=48, ge=1, le=4096)
    """Bottleneck width; 48 is the sum of GRASP's three clusters at their default"""


class SharedAdapter(ClusterAdapters):
    """GRASP without its partition: one residual adapter of the same total width serves every sample"""

    Config: ClassVar[type[MethodSettings]] = SharedAdapterSettings
    version = "1"
    paper = "our ablation of GRASP (arXiv 2512.01675); a parallel adapter after He et al. 2021, arXiv 2110.04366"

    def partition(self, task: Task[TaskSettings]) -> Partition:
        from grasp_bench.adapters.partition import single

        return single(task)
