"""Long-tail guidance: towards images that classifiers disagree on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from grasp_bench.contracts.settings import Settings
from grasp_bench.guidances.moved_estimate import MovedEstimate, MovedEstimateSettings

if TYPE_CHECKING:
    import torch


class LongTailSettings(MovedEstimateSettings):
    """Settings of long-tail guidance."""

    classifiers: int = Field(default=3, ge=2, le=20)
    """Classifiers whose disagreement guides, each from fresh weights and with an order of images of its own"""


class LongTailGuidance(MovedEstimate[LongTailSettings]):
    """After LTG: the estimated image is moved to where classifiers of the task's images disagree on its class

    Several classifiers are trained on the same images. With their probabilities p_m at the decoded estimate of the
    clean image, and H the entropy, their disagreement is the mutual information H(mean p_m) - mean H(p_m): it is large
    where each is sure of another class, and zero where all of them find an image equally unclear. g is its gradient
    with respect to the estimate alone: never through the network. The estimate moves by s(t) RMS(estimate) g / RMS(g)
    with s(t) = guidance_scale (t + 0.3 sin(π t)), as under ``classifier``, so that its size does not depend on how
    much they disagree. One NFE per step, and a backward pass of each classifier and, where there is one, the decoder.

    **At other sizes of latents.** The shift is a share of the estimate's root mean square, so its length per element is
    the same at every size. But the more elements an image has, the surer classifiers are, and where all are sure of the
    same class their disagreement and its gradient are close to zero: the shift keeps its length then, along what little
    there is of a gradient. At 16×64×64 classifiers read images of 512 pixels, unless ``resolution`` bounds what
    they see. How often they disagree there was not measured.

    The prompt says what is drawn, and the classifiers know nothing of it: at a large scale an image leaves its class.
    """

    Config: ClassVar[type[Settings]] = LongTailSettings
    version = "1"
    paper = (
        "after Hayden et al. 2025, arXiv 2502.01980, of which we know accounts: that sampling is guided by the "
        "epistemic uncertainty of a classifier, with neither retrained. It has a signal of a single forward pass; "
        "ours is the mutual information of an ensemble, and size and schedule of the shift are those of classifier"
    )

    @property
    def members(self) -> int:
        return self.config.classifiers

    def value(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        import torch

        return disagreement(torch.stack([classify(images) for classify in self.ensemble]))


def disagreement(logits: torch.Tensor) -> torch.Tensor:
    """Mutual information between class and classifier, in nats, (B,), of the logits (classifiers, B, classes)."""
    each = logits.log_softmax(2)
    together = each.logsumexp(0) - math.log(len(each))
    return _entropy(together) - _entropy(each).mean(0)


def _entropy(log_probabilities: torch.Tensor) -> torch.Tensor:
    """(..., classes) → (...)."""
    return -(log_probabilities.exp() * log_probabilities).sum(-1)
