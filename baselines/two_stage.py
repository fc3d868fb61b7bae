"""Decoupling: representation from the data as they are, then balanced classes for what is nearest to the output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import Field, model_validator

from grasp_bench.contracts.method import MethodSettings
from grasp_bench.contracts.second_stage import SecondStage
from grasp_bench.contracts.settings import Tuned
from grasp_bench.errors import Skip

from .on_top import OnTop, OnTopSettings

if TYPE_CHECKING:
    import numpy as np

    from grasp_bench.contracts.backbone import Backbone
    from grasp_bench.contracts.task import Task, TaskSettings

OUTPUT = ("norm_out", "proj_out", "scale_shift_table")
"""Beginnings of the names of what diffusers' transformers have behind their last block."""


class TwoStageSettings(OnTopSettings):
    """Settings of training in two stages."""

    share: Annotated[float, Tuned(0.1, 0.5)] = Field(default=0.25, gt=0, lt=1)
    """Share of the steps that the second stage has"""

    @model_validator(mode="after")
    def _unweighted(self) -> Self:
        if self.weighting != "none":
            raise ValueError(
                f"weighting={self.weighting}: losses are weighted by how often classes are drawn, which changes with "
                "the stage; leave it at none"
            )
        return self


class TwoStage(OnTop[TwoStageSettings]):
    """Two stages: images as they come, then balanced classes for the output layers or the adapters alone

    The first stage is the method beneath, step by step. In the second one, the last ``share`` of the steps, every class
    is drawn equally often. On full fine-tuning only what is behind the last block goes on training then, which is the
    modulation and projection of the output; a method that trains a part of the network goes on training all of it.

    The weights that rest keep their value and the optimiser's state; their gradients are still computed, so a
    step of the second stage costs what one of the first does.
    """

    Config: ClassVar[type[MethodSettings]] = TwoStageSettings
    version = "1"
    paper = (
        "after Kang et al. 2020, decoupling representation and classifier, arXiv 1910.09217, on classifiers: the "
        "output layers stand for its classifier, and are not drawn anew as in its cRT; rate and optimiser go on as "
        "they were, where its code begins both anew, and the second stage is a part of the budget rather than beside "
        "it: a quarter, where its code for ImageNet-LT adds 10 epochs to 90"
    )

    def supports(self, backbone: Backbone, task: Task[TaskSettings]) -> Skip | None:
        if self.kind == "all weights" and not any(map(self._trains, dict(backbone.transformer.named_parameters()))):
            return Skip(f"the second stage trains what is behind the last block, and nothing here is named {OUTPUT}")
        return super().supports(backbone, task)

    def second_stage(self, steps: int, counts: np.ndarray) -> SecondStage:
        import numpy as np

        balanced: np.ndarray = 1.0 / np.maximum(counts, 1)
        return SecondStage(steps - max(1, round(self.config.share * steps)), balanced, self._trains)

    def _trains(self, name: str) -> bool:
        return self.kind != "all weights" or name.startswith(OUTPUT)
