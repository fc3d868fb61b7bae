"""Contrastive regularisation: inner states of one class are drawn together, those of different classes apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from grasp_bench.contracts.method import Batch, MethodSettings
from grasp_bench.contracts.settings import Tuned

from .on_top import OnBlock, OnTopSettings

if TYPE_CHECKING:
    import torch

    from grasp_bench.contracts.backbone import Backbone
    from grasp_bench.contracts.task import Task, TaskSettings


class CoralSettings(OnTopSettings):
    """Settings of CORAL; its weights are those of the U-Net's code, not tuned for transformers."""

    contrast_weight: Annotated[float, Tuned(0.05, 5, log=True)] = Field(default=0.5, ge=0)
    """Weight w of the contrastive loss at pure noise; the temperature multiplies it, as in the paper's code"""
    time_scale: float = Field(default=0.3, gt=0)
    """Time scale of the contrast's weight, which grows towards the data as exp((1 - t) / time_scale)"""
    temperature: float = Field(default=0.1, gt=0)
    """Temperature that cosine similarities are divided by, and that the contrastive loss is multiplied by"""
    features: int = Field(default=64, ge=1, le=4096)
    """Width of the projection that the contrast is made in"""


class Coral(OnBlock[CoralSettings]):
    """CORAL: full fine-tuning or adapters, with a supervised contrastive loss on the middle block's image tokens

    A batch method: a sample is contrasted with those that a process works on at a time, so results depend on the
    number of processes and of accumulated parts. Samples whose prompt is dropped take no part in the contrast. The
    contrast is averaged over the samples that have another one of their class, as in the code; version 2 averaged over
    all, so that it faded where classes are many or rare and few samples of a batch share theirs.

    The t in exp((1 - t) / ``time_scale``) is the noise's share of the amplitude, where the code has the step's number
    k / T. They are the same under flow matching without a shift. On PixArt and DiT, whose 1000 steps have DDPM's linear
    schedule, the step at half of T has t = 0.77: there the contrast weighs less than in the code.

    What is contrasted is pooled over the image's tokens and normalised, so nothing in the loss grows with the latents;
    but pooling over more tokens makes samples more alike. On random weights (two of SD3's blocks, smooth latents of 16
    channels; `results/perf/sizes.json`) the mean cosine is 0.970 at 8×8, 0.989 at 32×32 and 0.991 at 64×64, and the
    contrast's gradient 0.13, 0.09 and 0.07 of that of the squared error: it still acts at 16×64×64, with about half
    the strength. How alike the tokens of trained weights are was not measured.
    """

    Config: ClassVar[type[MethodSettings]] = CoralSettings
    version = "3"
    paper = (
        "after CORAL, arXiv 2506.15933, as its code has it for a U-Net, where the contrastive loss is multiplied by "
        "its temperature on top of its weight (version 1 left that out, so that its contrast was ten times as "
        "strong); on the image tokens of a transformer's middle block, weighted by each sample's own timestep rather "
        "than by the batch's mean, with the loss of Khosla et al. 2020, arXiv 2004.11362, equation 2, averaged over "
        "samples that have another one of their class, as pytorch-metric-learning does in the code. Its projection "
        "is 128 wide with a bias, ours 64 without one"
    )

    def attach(self, backbone: Backbone, task: Task[TaskSettings], generator: torch.Generator) -> None:
        from torch import nn

        from grasp_bench import seeds
        from grasp_bench.adapters.inject import input_width
        from grasp_bench.adapters.tap import Tap, blocks

        found = blocks(backbone)
        middle = found[len(found) // 2]
        width, features = input_width(next(iter(backbone.feed_forwards().values()))), self.config.features
        super().attach(backbone, task, generator)
        with seeds.global_seed(generator):
            projection = nn.Linear(width, features, bias=False)
        self.transformer.add_module("contrast_projection", projection)  # where gradients are shared and saved
        self.tap = Tap(middle, projection)

    def detach(self) -> None:
        del self.transformer.contrast_projection
        super().detach()

    @property
    def needs_whole_batch(self) -> str | None:
        if self.config.contrast_weight == 0:
            return super().needs_whole_batch
        return "coral contrasts the samples that are worked on together"

    def losses(self, batch: Batch, prediction: torch.Tensor) -> torch.Tensor:
        features = self.tap.take()
        losses = super().losses(batch, prediction)
        if self.config.contrast_weight == 0:
            return losses
        condition, config = batch.condition, self.config
        contrast = supervised_contrast(features, condition.labels, ~condition.dropped, config.temperature)
        weight = config.contrast_weight * config.temperature
        return losses + weight * ((1 - condition.timesteps) / config.time_scale).exp() * contrast


def supervised_contrast(
    features: torch.Tensor, labels: torch.Tensor, present: torch.Tensor, temperature: float
) -> torch.Tensor:
    """The supervised contrastive loss of each sample, (B,), from features (B, P), labels (B,) and bool (B,).

    -mean over the others of its class of log(exp(s_ij / temperature) / Σ_{k≠i} exp(s_ik / temperature)), with s the
    cosine (Khosla et al. 2020, arXiv 2004.11362, equation 2). 0 for samples that are not ``present``, which nobody is
    contrasted with either, and for those whose class has no other sample. The rest are multiplied so that the mean
    over the present samples is that over those whose class has another one.
    """
    from torch.nn import functional

    unit = functional.normalize(features.float(), dim=1)
    others = present & present[:, None]
    others = others & ~others.new_ones(len(features)).diag()
    similar = others & (labels == labels[:, None])
    similarities = (unit[:, None] * unit).sum(2) / temperature  # (B, B)
    # a finite stand-in for -inf, whose softmax has no gradient where a row has no others
    log_shares = similarities.masked_fill(~others, -1e9).log_softmax(1)
    losses = -(log_shares * similar).sum(1) / similar.sum(1).clamp(min=1)
    return losses * (present.sum() / similar.any(1).sum().clamp(min=1))
