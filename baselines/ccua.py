"""Contrastive conditional-unconditional alignment: the null condition learns from the classes, and is spread out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from grasp_bench.contracts.method import Batch, MethodSettings
from grasp_bench.contracts.settings import Tuned

from .on_top import OnBlock, OnTopSettings, squared_distance

if TYPE_CHECKING:
    import torch

    from grasp_bench.contracts.backbone import Backbone
    from grasp_bench.contracts.task import Task, TaskSettings


class CcuaSettings(OnTopSettings):
    """Settings of CCUA."""

    alignment_weight: Annotated[float, Tuned(0.005, 0.5, log=True)] = Field(default=0.05, ge=0)
    """Weight, at pure noise, of the distance between predictions with and without the prompt"""
    contrast_weight: Annotated[float, Tuned(0.005, 0.5, log=True)] = Field(default=0.05, ge=0)
    """Weight, at pure noise, of the contrast between samples without their prompts"""
    temperature: float = Field(default=0.1, gt=0)
    """Temperature that cosine similarities are divided by"""


class Ccua(OnBlock[CcuaSettings]):
    """CCUA: full fine-tuning or adapters, aligned with and without prompts, with samples without prompts set apart

    The loss of a sample at timestep t gains t (γ ‖v(prompt) - v(null)‖² + α c) with the weights γ of alignment and α
    of contrast. The norm is the mean over elements, and c the log of the mean, over the other samples, of
    exp(cosine / temperature) of the image tokens, without prompts, behind the block whose number, from 0, is a quarter
    of their count: the seventh of 24, and the second of the four of tiny-sd3. Gradient reaches both predictions. The
    alignment draws them together, so the best guidance scale may differ from the one without it.

    The prediction without the prompt is made by the adapters of the sample's own class, also where the method beneath
    has others for dropped prompts, as grasp has. A sample whose own prompt is dropped has those, and takes part in the
    contrast alone, since both of its predictions are the same.

    The paper couples the contrast with drawing rare classes more often. That is the setting ``sampling`` of every
    method, and off by default: with sampling=balanced, compare with vanilla-ft of the same sampling.

    Neither term grows with the latents: the alignment is a mean over elements, and the contrast is between tokens that
    are pooled and normalised. Pooling over more tokens makes samples more alike: on random weights (two of SD3's
    blocks, smooth latents of 16 channels; `results/perf/sizes.json`) the mean cosine is 0.974 at 8×8, 0.991 at 32×32
    and 0.993 at 64×64, and the gradient of both terms 0.012, 0.004 and 0.004 of that of the squared error. At 16×64×64
    both act, with a third of the strength. How alike the tokens of trained weights are was not measured.

    A batch method: a sample is contrasted with those that a process works on at a time, so results depend on the
    number of processes and of accumulated parts.
    """

    Config: ClassVar[type[MethodSettings]] = CcuaSettings
    version = "1"
    paper = (
        "after CCUA, arXiv 2507.09052, with the weights of its code for SiT; the time weight is 1 at pure noise, as "
        "the paper argues, where that code's is 1 at the data; classes are drawn as they come unless sampling says "
        "otherwise, where the abstract resamples batches; the temperature, the cosine and the mean over "
        "negatives, which makes the contrast independent of the batch's size, are our own choices"
    )

    def attach(self, backbone: Backbone, task: Task[TaskSettings], generator: torch.Generator) -> None:
        from torch import nn

        from grasp_bench.adapters.tap import Tap, blocks

        super().attach(backbone, task, generator)
        all_blocks = blocks(backbone)
        self.tap = Tap(all_blocks[len(all_blocks) // 4], nn.Identity())

    @property
    def needs_whole_batch(self) -> str | None:
        if self.config.contrast_weight == 0:
            return super().needs_whole_batch
        return "ccua contrasts the samples that are worked on together"

    def losses(self, batch: Batch, prediction: torch.Tensor) -> torch.Tensor:

        losses, config = super().losses(batch, prediction), self.config
        if config.alignment_weight == config.contrast_weight == 0:
            return losses
        condition = batch.condition
        null = self.embed(batch, [""] * len(batch.ids))
        unconditional = self.predict(batch, replace(condition, prompts=null))
        alignment = squared_distance(prediction, unconditional)
        contrast = spread(self.tap.take(), config.temperature)
        return losses + condition.timesteps * (config.alignment_weight * alignment + config.contrast_weight * contrast)


def spread(features: torch.Tensor, temperature: float) -> torch.Tensor:
    """How near each sample is to the others, (B,), from features (B, D): log mean_{j≠i} exp(cosine_ij / temperature).

    It is the term of InfoNCE for the negatives; 0 for a sample alone.
    """
    import math

    from torch.nn import functional

    if len(features) == 1:
        return features.new_zeros(1)
    unit = functional.normalize(features.float(), dim=1)
    similarities = (unit[:, None] * unit).sum(2) / temperature  # (B, B)
    itself = similarities.new_ones(len(features)).diag().bool()
    return similarities.masked_fill(itself, -math.inf).logsumexp(1) - math.log(len(features) - 1)
