"""Adapters routed by noise level, alone or together with the partition of the samples."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, JsonValue

from grasp_bench import seeds
from grasp_bench.contracts.method import Condition, MethodSettings
from grasp_bench.contracts.sized import SizedSettings

from .routed import RoutedAdapters

if TYPE_CHECKING:
    import torch

    from grasp_bench.adapters.partition import Partition
    from grasp_bench.contracts.backbone import Backbone
    from grasp_bench.contracts.objective import Objective
    from grasp_bench.contracts.task import Task, TaskSettings

DRAWS = 2**18
DIGITS = 6  # coarser than what another machine's rounding could change


class TimestepSettings(SizedSettings):
    """Settings of timestep experts."""

    learning_rate: float = Field(default=3e-2, gt=0, le=1)
    """Peak learning rate of AdamW; GRASP's, not chosen for this method"""
    intervals: int = Field(default=3, ge=2, le=64)
    """Experts per cluster, each for an interval of timesteps that training draws as often as any other"""
    rank: int | None = Field(default=16, ge=1, le=4096)
    """Bottleneck width of each expert's adapter; three experts of 16 are as large as GRASP's three clusters"""
    scale: float = Field(default=1.0, gt=0)
    """Factor on what the adapters add"""


class GraspTimestepSettings(TimestepSettings):
    """Settings of GRASP with timestep experts."""

    intervals: int = Field(default=2, ge=2, le=64)
    """Experts per cluster, each for an interval of timesteps that training draws as often as any other"""
    rank: int | None = Field(default=8, ge=1, le=4096)
    """Bottleneck width of each expert's adapter; 3 clusters by 2 intervals of 8 are as large as GRASP's defaults"""


class TimestepExperts(RoutedAdapters[TimestepSettings]):
    """GRASP's adapters routed by noise level instead of sample: one expert per interval of timesteps"""

    Config: ClassVar[type[MethodSettings]] = TimestepSettings
    version = "1"
    paper = (
        "after eDiff-I (Balaji et al. 2022, arXiv 2211.01324), of which we know accounts: its experts are whole "
        "networks that branch in pairs from a shared one, ours are residual adapters beside one frozen network that "
        "all begin at once, on intervals of equal probability under the training's timesteps"
    )

    def partition(self, task: Task[TaskSettings]) -> Partition:
        from grasp_bench.adapters.partition import single

        return single(task)

    def attach(self, backbone: Backbone, task: Task[TaskSettings], generator: torch.Generator) -> None:
        self.cuts = interval_cuts(backbone.objective, self.config.intervals)
        super().attach(backbone, task, generator)

    def adapters(self) -> int:
        return len(self.map.clusters) * self.config.intervals

    def condition(self, condition: Condition) -> AbstractContextManager[object]:
        """The route to expert cluster · intervals + interval; a dropped prompt changes neither."""
        from grasp_bench.adapters.residual import Route
        from grasp_bench.contracts.scope import scope
        from grasp_bench.known import on_host

        clusters = self.of_class[on_host(condition.labels)]
        experts = clusters * self.config.intervals + interval_of(on_host(condition.timesteps), self.cuts)
        return scope(Route.of(experts, condition.labels.device))

    def artifacts(self) -> dict[str, JsonValue]:
        return super().artifacts() | {"intervals.json": {"cuts": list(self.cuts)}}


class GraspTimestep(TimestepExperts):
    """GRASP with timestep experts: one adapter for each cluster of samples and interval of timesteps"""

    Config: ClassVar[type[MethodSettings]] = GraspTimestepSettings
    version = "1"
    paper = (
        "our crossing of GRASP (arXiv 2512.01675) with timestep experts after eDiff-I (Balaji et al. 2022, arXiv "
        "2211.01324); a sample whose prompt is dropped keeps its cluster, which the unconditional branch so knows"
    )

    def partition(self, task: Task[TaskSettings]) -> Partition:
        from grasp_bench.adapters.partition import by_group

        return by_group(task)


def interval_cuts(objective: Objective, intervals: int) -> tuple[float, ...]:
    """The ``intervals`` - 1 ascending timesteps between which training draws equally often.

    Quantiles of 2^18 draws of a fixed stream, to six digits: they depend on the objective alone.
    """
    drawn = objective.timesteps(DRAWS, seeds.generator("timestep intervals")).double().sort().values
    return tuple(round(drawn[DRAWS * number // intervals].item(), DIGITS) for number in range(1, intervals))


def interval_of(timesteps: torch.Tensor, cuts: tuple[float, ...]) -> torch.Tensor:
    """Index of the interval of each timestep, int64 (B,); a cut belongs to the interval that it begins."""
    import torch

    # in single precision, as in training: the sampler's double must not round to the other side of a cut
    bounds = torch.tensor(cuts, dtype=torch.float32, device=timesteps.device)
    return torch.bucketize(timesteps.float().contiguous(), bounds, right=True)
