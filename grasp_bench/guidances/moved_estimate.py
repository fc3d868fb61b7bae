"""Guidance by the gradient of what classifiers see in the estimate of the clean image, which is moved along it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import Field

from grasp_bench.contracts.guidance import Model, SamplingStep
from grasp_bench.contracts.settings import Tuned
from grasp_bench.guidances.cfg import BASE_SCALE, BaseScale, base_prediction
from grasp_bench.guidances.image_classifier import ClassifierGuided, ClassifierSettings

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from grasp_bench.contracts.guidance import Workshop

BUMP = 0.3  # share of the sine in EluCD's schedule


class MovedEstimateSettings(ClassifierSettings):
    """Settings of every guidance that moves the estimate of the clean image; one adds its own."""

    guidance_scale: Annotated[float, Tuned(0.01, 3, log=True)] = Field(default=0.1, ge=0, le=10)
    """Shift of the estimated image at t = 1, as a share of its root mean square; 0: none"""
    softplus_beta: float = Field(default=3.0, gt=0, le=100)
    """Sharpness of the softplus that stands for every ReLU of the classifier, for a smooth gradient"""
    base_scale: BaseScale = 1.0

    added = BASE_SCALE


C_co = TypeVar("C_co", bound=MovedEstimateSettings, covariant=True)


class MovedEstimate(ClassifierGuided[C_co]):
    """Base of the guidances that move the estimated image to where a value of classifiers is larger.

    With g the gradient of :meth:`value` with respect to the estimate alone, never through the network, the estimate
    moves by s(t) RMS(estimate) g / RMS(g) with s(t) = guidance_scale (t + 0.3 sin(π t)), each sample by itself, and the
    sampler follows the prediction that implies it.
    """

    @property
    def evaluations_per_step(self) -> int:
        return 1 + (self.config.base_scale != 1)

    def prepare(self, workshop: Workshop, folder: Path | None) -> None:
        super().prepare(workshop, folder)
        for each in self.ensemble:
            smooth(each.network, self.config.softplus_beta)
        self.decode = workshop.backbone.decode

    def value(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """What grows along the way, (B,), of images (B, C, H, W) in about [-1, 1] of classes (B,)."""
        raise NotImplementedError

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
        """The gradient of the value with respect to estimates (B, ...) of latents of classes (B,)."""
        import torch

        with torch.enable_grad():
            leaf = clean.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.value(self.decode(leaf), labels).sum(), leaf)
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
