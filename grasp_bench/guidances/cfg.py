"""Sampling with classifier-free guidance, and sampling without guidance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from grasp_bench.contracts.guidance import Guidance, Model, SamplingStep
from grasp_bench.contracts.settings import Settings, Tuned

if TYPE_CHECKING:
    import torch


BaseScale = Annotated[
    float,
    Tuned(0.9, 3, log=True),
    Field(
        ge=0,
        le=100,
        description="w of the classifier-free guidance beneath, u + w (c - u), which takes the place of the "
        "conditional prediction; 1: none (one NFE per step less)",
    ),
]
"""The setting ``base_scale`` of a guidance that builds on the conditional prediction; its default is 1."""
BASE_SCALE = frozenset({"base_scale"})
"""What such settings have in ``added``."""


class CfgSettings(Settings):
    """Settings of classifier-free guidance."""

    guidance_scale: Annotated[float, Tuned(0.9, 3, log=True)] = Field(default=2.0, ge=0, le=100)
    """w in u + w (c - u): 0 unconditional, 1 conditional (one NFE per step), more pushes towards the prompt"""


class ClassifierFreeGuidance(Guidance[CfgSettings]):
    """Classifier-free guidance: the conditional prediction pushed away from the unconditional one"""

    Config = CfgSettings
    classifier_free = True
    version = "1"
    paper = "Ho & Salimans 2022, Classifier-Free Diffusion Guidance, arXiv 2207.12598"

    @property
    def evaluations_per_step(self) -> int:
        return 1 if self.config.guidance_scale in (0, 1) else 2

    def predict(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> torch.Tensor:
        scale = self.config.guidance_scale
        if scale == 1:
            return model.conditional(latents, step.timesteps)
        if scale == 0:
            return model.unconditional(latents, step.timesteps)
        conditional, unconditional = model.both(latents, step.timesteps)
        return unconditional + scale * (conditional - unconditional)


class NoGuidance(Guidance[Settings]):
    """The conditional prediction alone, one network function evaluation per step

    A transformer into which guidance was distilled is told a scale of 1, as FLUX.1-dev in its fine-tuning; under any
    other guidance it is told the scale of its recipe, beneath whatever the guidance adds.
    """

    version = "1"
    paper = "none"
    evaluations_per_step = 1
    guides = False

    def predict(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> torch.Tensor:
        return model.conditional(latents, step.timesteps)


def base_prediction(
    model: Model, latents: torch.Tensor, timesteps: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The conditional prediction (B, ...), and that of classifier-free guidance with ``scale`` (B, ...).

    At scale 1 the second is the first, from one evaluation.
    """
    if scale == 1:
        conditional = model.conditional(latents, timesteps)
        return conditional, conditional
    conditional, unconditional = model.both(latents, timesteps)
    return conditional, unconditional + scale * (conditional - unconditional)


def both_where(
    model: Model, latents: torch.Tensor, timesteps: torch.Tensor, chosen: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Conditional and unconditional predictions (B, ...); the second is evaluated where ``chosen`` (B,) is true.

    Elsewhere the second repeats the first, so that their difference is exactly zero. ``chosen`` decides what is
    evaluated, so it is read once from the device, unless its values are known.
    """
    from grasp_bench.known import known, on_host

    here = on_host(chosen)
    if here.all():
        return model.both(latents, timesteps)
    conditional = model.conditional(latents, timesteps)
    unconditional = conditional.clone()
    if here.any():
        rows, times = known(here.nonzero().squeeze(1), latents.device), known(on_host(timesteps)[here], latents.device)
        unconditional[rows] = model.rows(rows).unconditional(latents[rows], times)
    return conditional, unconditional
