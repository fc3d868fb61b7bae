"""Classifier guidance through the estimate of the clean image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from grasp_bench.contracts.guidance import Model, SamplingStep
from grasp_bench.contracts.settings import Settings, Tuned
from grasp_bench.guidances.cfg import BASE_SCALE, BaseScale, base_prediction
from grasp_bench.guidances.image_classifier import ClassifierGuided, ClassifierSettings

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from grasp_bench.contracts.guidance import Workshop

BUMP = 0.3  # share of the sine in the schedule of the paper


class ClassifierGuidanceSettings(ClassifierSettings):
    """Settings of classifier guidance."""

    guidance_scale: Annotated[float, Tuned(0.01, 3, log=True)] = Field(default=0.1, ge=0, le=10)
    """Shift of the estimated image at t = 1, as a share of its root mean square; 0: none"""
    own_temperature: float = Field(default=1.0, ge=0, le=10)
    """Factor of the logit of the sample's own class"""
    other_temperature: float = Field(default=0.5, ge=0, le=10)
    """Factor of all logits in the term that takes them down together; 0 leaves it out"""
    softplus_beta: float = Field(default=3.0, gt=0, le=100)
    """Sharpness of the softplus that stands for every ReLU of the classifier, for a smooth gradient"""
    base_scale: BaseScale = 1.0

    added: ClassVar[frozenset[str]] = BASE_SCALE


class ClassifierGuidance(ClassifierGuided[ClassifierGuidanceSettings]):
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

    @property
    def evaluations_per_step(self) -> int:
        return 1 + (self.config.base_scale != 1)

    def prepare(self, workshop: Workshop, folder: Path | None) -> None:
        super().prepare(workshop, folder)
        smooth(self.classify.network, self.config.softplus_beta)
        self.decode = workshop.backbone.decode

    def predict(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> torch.Tensor:
        _, base = base_prediction(model, latents, step.timesteps, self.config.base_scale)
        if self.config.guidance_scale == 0:
            return base
        clean = model.objective.clean(latents, base, step.timesteps)
        direction = self._gradient(clean, model.labels)
        t = step.timesteps
        schedule = self.config.guidance_scale * (t + BUMP * (math.pi * t).sin())
        # where the gradient vanishes there is no direction to go in
        size = schedule * _rms(clean) / _rms(direction).clamp_min(1e-30)
        shifted = clean + size.reshape(-1, *[1] * (clean.ndim - 1)) * direction
        return model.objective.prediction(latents, shifted, t)

    def _gradient(self, clean: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The gradient of the classifier's objective with respect to estimates (B, ...) of images of classes (B,)."""
        import torch

        with torch.enable_grad():
            leaf = clean.detach().requires_grad_()
            logits = self.classify(self.decode(leaf))
            own = self.config.own_temperature * logits.gather(1, labels[:, None])[:, 0]
            value = own - (self.config.other_temperature * logits).logsumexp(1)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return gradient


def smooth(network: torch.nn.Module, beta: float) -> None:
    """Put a softplus in the place of every ReLU that is a module of ``network``."""
    from torch import nn

    for name, module in list(network.named_modules()):
        if isinstance(module, nn.ReLU):
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, nn.Softplus(beta))


def _rms(values: torch.Tensor) -> torch.Tensor:
    """Root mean square of each sample: (B, ...) → (B,)."""
    return values.flatten(1).square().mean(1).sqrt()
