"""Class-balancing diffusion models: predictions under different classes' prompts are drawn together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from grasp_bench.contracts.method import Batch, Condition, MethodSettings
from grasp_bench.contracts.settings import Tuned

from .on_top import OnTop, OnTopSettings, squared_distance

if TYPE_CHECKING:
    import torch


class CbdmSettings(OnTopSettings):
    """Settings of CBDM."""

    tau: Annotated[float, Tuned(0.1, 10, log=True)] = Field(default=1.0, ge=0)
    """Weight of the regulariser, τ, at pure noise; it falls linearly to 0 at the data"""
    commitment: float = Field(default=0.25, ge=0)
    """Weight of the regulariser's second term, which moves the prediction under the other class"""
    prior: Literal["train", "uniform"] = "train"
    """Distribution that the other class is drawn from: the classes' shares of the training images, or uniform"""


class Cbdm(OnTop[CbdmSettings]):
    """CBDM: full fine-tuning or adapters, with predictions under two classes' prompts drawn together

    The loss of a sample of class y at timestep t is ‖v(y) - target‖² + τ t (‖v(y) - sg v(y')‖² + γ ‖sg v(y) - v(y')‖²)
    with sg the stopped gradient, γ the ``commitment`` and y' drawn again in every step; each norm is the mean over
    elements. y' lends its prompt only: adapters are those of y. A sample whose prompt is dropped has no regulariser.

    The t that weighs the regulariser is the noise's share of the amplitude, on every backbone. The code weighs by the
    step's number k / T, which is the same under flow matching without a shift. On PixArt and DiT, whose 1000 steps have
    DDPM's linear schedule, the step at half of T has t = 0.77, and at a quarter 0.49: there the regulariser weighs more
    than in the code.

    Means over elements do not depend on the size of the latents: on random weights (two of SD3's blocks, smooth latents
    of 16 channels; `results/perf/sizes.json`) the regulariser's gradient is 0.024 of that of the squared error at 8×8,
    0.021 at 32×32 and 0.026 at 64×64.
    """

    Config: ClassVar[type[MethodSettings]] = CbdmSettings
    version = "1"
    paper = (
        "Qin et al. 2023, CBDM, arXiv 2305.00562, with the weights of its code; on the objective's own prediction, "
        "with t the noise's share of the amplitude, class prompts for labels, and prompts dropped sample by sample "
        "rather than for a whole batch. Its code draws the other class evenly when it fine-tunes a model that was "
        "trained on the same data; our pretrained one was not"
    )

    def losses(self, batch: Batch, prediction: torch.Tensor) -> torch.Tensor:
        losses = super().losses(batch, prediction)
        if self.config.tau == 0:
            return losses
        other = self.predict(batch, self.under_other_classes(batch))
        moved = squared_distance(prediction, other.detach())
        committed = squared_distance(prediction.detach(), other)
        held = self.config.tau * batch.condition.timesteps * (moved + self.config.commitment * committed)
        return losses + held.masked_fill(batch.condition.dropped, 0)

    def under_other_classes(self, batch: Batch) -> Condition:
        """The condition of ``batch`` with the prompts of other classes, drawn for every sample."""
        import torch

        from grasp_bench.known import on_host

        shares = self.counts.double() if self.config.prior == "train" else torch.ones(len(self.counts))
        labels = batch.draw(lambda count, generator: torch.multinomial(shares, count, True, generator=generator))
        prompts = self.embed(batch, [self.prompts[label] for label in on_host(labels).tolist()])
        return replace(batch.condition, prompts=prompts)
