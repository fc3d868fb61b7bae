"""Sampling without guidance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grasp_bench.contracts.guidance import Guidance, Model, SamplingStep
from grasp_bench.contracts.settings import Settings

if TYPE_CHECKING:
    import torch


class NoGuidance(Guidance[Settings]):
    """The conditional prediction alone, one network function evaluation per step"""

    version = "1"
    paper = "none"
    evaluations_per_step = 1

    def predict(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> torch.Tensor:
        return model.conditional(latents, step.timesteps)
