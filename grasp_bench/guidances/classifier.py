"""Classifier guidance through the estimate of the clean image."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from grasp_bench.contracts.settings import Settings
from grasp_bench.guidances.moved_estimate import MovedEstimate, MovedEstimateSettings

if TYPE_CHECKING:
    import torch


class ClassifierGuidanceSettings(MovedEstimateSettings):
    """Settings of classifier guidance."""

    own_temperature: float = Field(default=1.0, ge=0, le=10)
    """Factor of the logit of the sample's own class"""
    other_temperature: float = Field(default=0.5, ge=0, le=10)
    """Factor of all logits in the term that takes them down together; 0 leaves it out"""


class ClassifierGuidance(MovedEstimate[ClassifierGuidanceSettings]):
    """After EluCD: the estimated image is moved where an off-the-shelf classifier sees its class more clearly

    With the classifier's logits f at the decoded estimate of the clean image, g is the gradient of
    τ_own f_y - log Σ_k exp(τ_other f_k) with respect to that estimate alone: never through the network. The estimate
    moves by s(t) RMS(estimate) g / RMS(g) with s(t) = guidance_scale (t + 0.3 sin(π t)), each sample by itself, and the
    sampler follows the prediction that implies it. One NFE per step, and a backward pass of the classifier and,
    where there is one, the decoder. The estimate is not clipped to the range of images, which would stop gradients.
    With classifier-free guidance beneath, the estimate that is moved is that of the guided prediction.

    The paper adds the gradient to the mean of a step with noise or to the estimate of an EDM; the schedule in t is our
    port. Its classifiers are pretrained ResNets, ours is trained on the task's own long-tailed images.
    """

    Config: ClassVar[type[Settings]] = ClassifierGuidanceSettings
    version = "1"
    paper = (
        "after Ma et al. 2023, Elucidating the Design Space of Classifier-Guided Diffusion Generation, arXiv "
        "2310.11311; the port to noise shares in [0, 1] and its scale are our own choices"
    )

    def value(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = self.classify(images)
        own = self.config.own_temperature * logits.gather(1, labels[:, None])[:, 0]
        return own - (self.config.other_temperature * logits).logsumexp(1)
