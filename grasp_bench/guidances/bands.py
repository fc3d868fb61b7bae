"""Classifier-free guidance with a scale of its own for coarse and for fine structure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from grasp_bench.contracts.guidance import Guidance, Model, SamplingStep
from grasp_bench.contracts.settings import Settings, Tuned

if TYPE_CHECKING:
    import torch

RATIO = 2  # of the sides of a latent and of its coarse version


class BandSettings(Settings):
    """Settings of frequency-aware guidance."""

    low_scale: Annotated[float, Tuned(0.9, 3, log=True)] = Field(default=2.0, ge=0, le=100)
    """w of classifier-free guidance for what is left of a latent at half its resolution"""
    high_scale: Annotated[float, Tuned(0.9, 3, log=True)] = Field(default=3.0, ge=0, le=100)
    """w of classifier-free guidance for the rest of a latent; if both scales are 1, the prediction is the conditional
    one (one NFE per step)"""


class FrequencyAwareGuidance(Guidance[BandSettings]):
    """Frequency-aware guidance: classifier-free guidance with one scale for coarse and another for fine structure

    The low band of a latent is what bilinear interpolation to half its resolution and back leaves; the high band is the
    rest. diffusers' frequency-decoupled guidance (arXiv 2506.19713) has the same form on the bands of a Gaussian
    pyramid.
    """

    Config = BandSettings
    version = "1"
    paper = (
        "after the frequency-aware guidance of FreCaS (Zhang et al. 2024, arXiv 2410.18410): its two bands, but at one "
        "resolution, without the cascade of stages that it is made for and without its reuse of attention maps; so the "
        "paper's scale for the high band, 25 to 45, does not carry over, and ours is our own choice"
    )

    @property
    def evaluations_per_step(self) -> int:
        return 1 if self.config.low_scale == self.config.high_scale in (0, 1) else 2

    def predict(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> torch.Tensor:
        low, high = self.config.low_scale, self.config.high_scale
        if low == high == 1:
            return model.conditional(latents, step.timesteps)
        if low == high == 0:
            return model.unconditional(latents, step.timesteps)
        conditional, unconditional = model.both(latents, step.timesteps)
        difference = conditional - unconditional
        guided = unconditional + high * difference
        return guided if low == high else guided + (low - high) * low_band(difference)


def low_band(latents: torch.Tensor) -> torch.Tensor:
    """What is left of latents (B, C, H, W) at half their resolution, at their own: (B, C, H, W)."""
    from torch.nn.functional import interpolate

    height, width = latents.shape[2:]
    coarse = interpolate(latents, (max(1, height // RATIO), max(1, width // RATIO)), mode="bilinear")
    return interpolate(coarse, (height, width), mode="bilinear")
