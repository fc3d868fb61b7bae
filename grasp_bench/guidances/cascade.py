"""Cascade: sampling begins at the trained resolution and ends at twice that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from grasp_bench.backbones.diffusers_model import finer_positions, placed
from grasp_bench.contracts.guidance import Guidance, Model, SamplingStep, Workshop
from grasp_bench.contracts.settings import Settings, Tuned
from grasp_bench.guidances.bands import BandSettings, FrequencyAwareGuidance

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from grasp_bench.contracts.method import Condition

FACTOR = 2  # of the sides of latents, from one stage to the next
LARGE, POSITIONS = "large", "positions"


class CascadeSettings(BandSettings):
    """Settings of a cascade."""

    stages: int = Field(default=2, ge=1, le=2)
    """Resolutions: 1 is fa-cfg at the trained one alone, 2 has a second stage at twice the sides"""
    share: float = Field(default=0.4, gt=0, lt=1)
    """Share of the steps that the last stage has, rounded down"""
    last_low_scale: Annotated[float, Tuned(0.9, 3, log=True)] = Field(default=2.0, ge=0, le=100)
    """``low_scale`` of the last stage"""
    last_high_scale: Annotated[float, Tuned(0.9, 3, log=True)] = Field(default=3.0, ge=0, le=100)
    """``high_scale`` of the last stage"""


class CascadeGuidance(Guidance[CascadeSettings]):
    """After FreCaS: coarse structure at the trained resolution, then detail at twice that, with fa-cfg in each stage

    The first steps are those of ``fa-cfg`` at the trained resolution. Where the last stage begins, at t, the estimate
    of the clean latents is enlarged bilinearly and noised to t again by a draw of the image's own, and from there on
    the network works on four times as many numbers, at positions between the trained ones where its table is too small
    for more; steps from t to t' are first-order, x' = a' x̂ + s' ê of the estimates x̂ and ê of image and noise, whatever
    the sampler. The image has the task's size: every two by two numbers of the last estimate are averaged, which of an
    image in pixels is resizing by area; latents are averaged before they are decoded.

    An evaluation at twice the sides counts as one, and takes four times the FLOPs or more: compare by FLOPs.
    """

    Config: ClassVar[type[Settings]] = CascadeSettings
    version = "1"
    paper = (
        "after FreCaS (Zhang et al. 2024, arXiv 2410.18410): its cascade with frequency-aware guidance in each stage. "
        "Simplified: two stages and no reuse of attention maps; the noise level is kept from one stage to the next, "
        "where FreCaS shifts it with the resolution; the image is averaged to the task's size, since it is scored there"
    )

    def __init__(self, config: CascadeSettings) -> None:
        super().__init__(config)
        self.embed: Any = None
        self.native = (0, 0, 0)
        self.first = FrequencyAwareGuidance(BandSettings(low_scale=config.low_scale, high_scale=config.high_scale))
        self.last = FrequencyAwareGuidance(
            BandSettings(low_scale=config.last_low_scale, high_scale=config.last_high_scale)
        )

    def evaluations(self, steps: int) -> int:
        last = steps - self.begins(steps)
        return (steps - last) * self.first.evaluations_per_step + last * self.last.evaluations_per_step

    def begins(self, steps: int) -> int:
        """Number of the first step of the last stage, which is never the first step of all; ``steps`` without one."""
        if self.config.stages == 1:
            return steps
        return steps - min(int(self.config.share * steps), steps - 1)

    def prepare(self, workshop: Workshop, folder: Path | None) -> None:
        self.embed = getattr(workshop.backbone.transformer, "pos_embed", None)
        self.native = workshop.backbone.latent_shape

    def predict(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> torch.Tensor:
        begins = self.begins(step.count)
        if step.index < begins:
            prediction = self.first.predict(model, latents, step)
            if step.index == begins - 1 < step.count - 1:
                clean = model.objective.clean(latents, prediction, step.timesteps)
                step.memory[LARGE] = enlarged(model, clean, step)
            return prediction
        large = step.memory[LARGE]
        prediction = self.last.predict(self._with_positions(model, step), large, step)
        clean = model.objective.clean(large, prediction, step.timesteps)
        noise = noise_of(model, large, clean, step.timesteps)
        step.memory[LARGE] = model.objective.add_noise(clean, noise, step.next_timesteps)
        return model.objective.prediction(latents, reduced(clean), step.timesteps)

    def _with_positions(self, model: Model, step: SamplingStep) -> Model:
        """Return the model with positions for twice the sides, which are made once for a batch if it has none."""
        if POSITIONS not in step.memory and (made := finer_positions(self.embed, self.native, FACTOR)) is not None:
            step.memory[POSITIONS] = made.to(step.timesteps.device)
        if (table := step.memory.get(POSITIONS)) is None:
            return model

        def network(latents: torch.Tensor, condition: Condition) -> torch.Tensor:
            with placed(self.embed, table, (latents.shape[-2], latents.shape[-1])):
                return model.network(latents, condition)

        return model.on(network)


def enlarged(model: Model, clean: torch.Tensor, step: SamplingStep) -> torch.Tensor:
    """Estimates (B, C, H, W) at twice their sides, noised to the next step's level by a draw of each one's own."""
    import torch
    from torch.nn.functional import interpolate

    from grasp_bench.processes import sent

    large = interpolate(clean, scale_factor=FACTOR, mode="bilinear")
    drawn = torch.stack([torch.randn(large.shape[1:], generator=generator) for generator in step.generators])
    return model.objective.add_noise(large, sent(drawn.to(clean.dtype), clean.device), step.next_timesteps)


def reduced(large: torch.Tensor) -> torch.Tensor:
    """(B, C, 2 H, 2 W) → (B, C, H, W), the mean of every two by two numbers."""
    from torch.nn.functional import avg_pool2d

    return avg_pool2d(large, FACTOR)


def noise_of(model: Model, noisy: torch.Tensor, clean: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """The noise (B, ...) in noisy latents whose clean ones are known, at timesteps (B,) above 0."""
    import torch

    ones = noisy.new_ones(len(noisy), *[1] * (noisy.ndim - 1))
    amplitude = model.objective.add_noise(torch.zeros_like(ones), ones, timesteps)
    return (noisy - model.objective.add_noise(clean, torch.zeros_like(ones), timesteps)) / amplitude
