"""Capacity manipulation: a low-rank expert that frequent classes may not use and rare ones should."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, JsonValue

from grasp_bench.contracts.method import Batch, MethodSettings
from grasp_bench.contracts.settings import Tuned
from grasp_bench.errors import Skip

from .on_top import OnTop, OnTopSettings, squared_distance

if TYPE_CHECKING:
    import torch

    from grasp_bench.contracts.backbone import Backbone
    from grasp_bench.contracts.task import Task, TaskSettings


class CmSettings(OnTopSettings):
    """Settings of capacity manipulation."""

    on: str = "lora"
    """Name of the method that trains the general weights, with its own defaults: LoRA updates frozen ones, and
    vanilla-ft all of the transformer's"""
    rank_ratio: float = Field(default=0.1, gt=0, le=1)
    """Rank of the expert, at least 1, as a share of that of the general weights: the ``rank`` of the method beneath, or
    the smaller side of each weight where that has none"""
    capacity_weight: Annotated[float, Tuned(0.1, 10, log=True)] = Field(default=1.0, ge=0)
    """Weight λ of the loss on what the expert adds to predictions"""
    reward_limit: float = Field(default=0.1, gt=0)
    """Largest rewarded mean squared difference between a rare class's predictions with and without the expert"""

    def beneath_size(self) -> dict[str, int]:
        """The number of parameters without the share of it that the expert has beside LoRA, in the same layers."""
        return {name: round(value / (1 + self.rank_ratio)) for name, value in super().beneath_size().items()}


class Cm(OnTop[CmSettings]):
    """After capacity manipulation: general weights and a low-rank expert that is kept idle on all but rare classes

    The loss of a sample of class y gains λ (consistency_y - diversity_y) d, d being the mean squared difference of
    the predictions with and without the expert, consistency_y = C n_y / Σ n and diversity_y = C / (n_y Σ 1/n) over C
    classes. It is negative for rare classes and would have no lower bound: there d counts up to ``reward_limit`` and
    has no gradient above it. How often that was so is in the diagnostics. Both predictions are moved.

    The general weights are of low rank where the method beneath has a rank, and the expert then has a share of that: 1
    beside LoRA's 11. It stands beside every projection of the attention, whatever the method beneath trains, so only
    with LoRA is its share of the parameters the same. Version 1 took a share of the layer's width there, too, so that
    the expert had more parameters than the general weights wherever layers are wide. Compare it with the method
    beneath, ``lora`` by default. Both d and its limit are means over elements, so that neither grows with the latents;
    how often the limit is reached on a large backbone was not measured.
    """

    Config: ClassVar[type[MethodSettings]] = CmSettings
    version = "2"
    paper = (
        "after capacity manipulation (ICLR 2026, OpenReview wSGle6ag5I), of which we know notes and no code: the two "
        "weights, the rank and λ are the paper's, and so are both forms, of which that beside LoRA is the default; "
        "experts beside the attention projections only, the limit of the reward and that both predictions are moved "
        "are our own choices"
    )

    def supports(self, backbone: Backbone, task: Task[TaskSettings]) -> Skip | None:
        from grasp_bench.adapters.residual import attention_layers

        if not attention_layers(backbone):
            return Skip("the experts stand beside the attention's linear layers, and this backbone names none")
        return super().supports(backbone, task)

    def attach(self, backbone: Backbone, task: Task[TaskSettings], generator: torch.Generator) -> None:
        import torch

        from grasp_bench.adapters.inject import wrap
        from grasp_bench.adapters.residual import LowRankExpert, attention_layers, widths

        super().attach(backbone, task, generator)

        general = self.sizes.get("rank")

        def expert(layer: Any) -> LowRankExpert:
            rank = min(widths(layer)) if general is None else general
            return LowRankExpert(layer, max(1, round(self.config.rank_ratio * rank)), generator)

        wrap(self.transformer, attention_layers(backbone), expert)
        self.class_weights = class_weights(self.counts)
        self.rewarded, self.limited = torch.zeros(2)

    def detach(self) -> None:
        from grasp_bench.adapters.inject import unwrap
        from grasp_bench.adapters.residual import LowRankExpert

        unwrap(self.transformer, LowRankExpert)
        super().detach()

    def export(self, folder: Path) -> str:
        """Nothing: the format of the method beneath has no place for the expert."""
        return ""

    def losses(self, batch: Batch, prediction: torch.Tensor) -> torch.Tensor:
        from grasp_bench.adapters.residual import WITHOUT_EXPERT
        from grasp_bench.contracts.scope import scope
        from grasp_bench.processes import sent

        losses, config = super().losses(batch, prediction), self.config
        if config.capacity_weight == 0:
            return losses
        with scope(WITHOUT_EXPERT):
            general = self.predict(batch, batch.condition)
        weights = sent(self.class_weights.to(losses.dtype), losses.device)[batch.condition.labels]
        used = squared_distance(prediction, general)
        rewarded = weights < 0
        self.rewarded, self.limited = (each.to(rewarded.device) for each in (self.rewarded, self.limited))
        self.rewarded += rewarded.sum()
        self.limited += (rewarded & (used > config.reward_limit)).sum()
        used = used.clamp(max=config.reward_limit).where(rewarded, used)
        return losses + config.capacity_weight * weights * used

    def counters(self) -> dict[str, torch.Tensor]:
        return super().counters() | {"rewarded": self.rewarded, "limited": self.limited}

    def diagnostics(self) -> dict[str, JsonValue]:
        """The share of rare classes' samples whose reward was at its limit."""
        from grasp_bench.exchange import total

        rewarded, limited = (total(each).item() for each in (self.rewarded, self.limited))
        self.rewarded.zero_()
        self.limited.zero_()
        return super().diagnostics() | {"reward_limited": limited / max(1, rewarded)}


def class_weights(counts: torch.Tensor) -> torch.Tensor:
    """consistency - diversity of each class, float64 (C,), from its number of training images (C,)."""
    images = counts.double().clamp(min=1)
    consistency = images / images.mean()
    diversity = 1 / (images * (1 / images).mean())
    return consistency - diversity
