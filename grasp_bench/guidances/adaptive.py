"""Adaptive guidance: classifier-free guidance until its two branches agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from grasp_bench.contracts.guidance import Guidance, Model, SamplingStep
from grasp_bench.contracts.settings import Settings, Tuned
from grasp_bench.guidances.cfg import both_where

if TYPE_CHECKING:
    import torch

GUIDED = "adaptive-guided"


class AdaptiveSettings(Settings):
    """Settings of adaptive guidance."""

    guidance_scale: Annotated[float, Tuned(0.9, 3, log=True)] = Field(default=2.0, ge=0, le=100)
    """w in u + w (c - u) as long as a sample is guided; 1 never guides"""
    threshold: Annotated[float, Tuned(0.9, 1)] = Field(default=0.991, ge=-1, le=2)
    """Cosine of the two estimates of x_0 from which on a sample is no longer guided; above 1 it always is. Which value
    saves a quarter of the NFE, as in the paper, depends on the backbone and the task"""


class AdaptiveGuidance(Guidance[AdaptiveSettings]):
    """Adaptive guidance: once a sample's two predictions point the same way, the conditional one is enough

    Each sample is guided until the cosine of its conditional and unconditional estimate of x_0 first reaches the
    threshold; that step and all later ones are conditional, so the later ones cost one NFE. The paper compares
    predicted noise. Under flow matching that would end the guidance at once: at t = 1 the estimate of the noise is the
    noisy latent itself, whatever the prompt; and velocities need not come any closer on the way. Estimates of x_0 do,
    under every objective.

    **At other sizes of latents.** A cosine has no size, and the threshold keeps its meaning. What size changes is when
    the estimates agree. On a Gaussian with the 1 / f² spectrum of natural images, of whose energy the prompt explains
    10 %, those of a perfect network have a mean cosine of 0.991 at t = 0.41 at 1 × 8 × 8, at 0.43 at 3 × 32 × 32 and at
    0.46 at 16 × 64 × 64. What the prompt explains matters more: with 5 % of the energy it is 0.50, 0.54 and 0.60, with
    30 % 0.30, 0.30 and 0.31. Cosines also scatter less among samples, by 0.0039, 0.0013 and 0.0006 (standard deviation
    at 10 %), so that at 16 × 64 × 64 all samples whose prompts say as much leave the guidance in nearly the same step.
    In 20 steps of the pretrained backbones 39 % of the unconditional evaluations were saved on tiny-sd3 (1 × 8 × 8)
    and 28 % on tiny-sd3-32 (3 × 32 × 32), see `results/perf/agreement.json`; nothing larger was measured.

    Which samples are guided decides what the network is given, so from the second step on the host waits once a step
    for their cosines: to leave them on the device would cost both evaluations of every sample, which are to be saved.
    """

    Config = AdaptiveSettings
    classifier_free = True
    version = "1"
    paper = (
        "after Castillo et al. 2023, Adaptive Guidance: Training-free Acceleration of Conditional Diffusion Models, "
        "arXiv 2312.12487, from accounts of it. The default threshold is the paper's, for the cosine of noise; "
        "comparing estimates of x_0 is our own choice"
    )

    @property
    def evaluations_per_step(self) -> int:
        """NFE per step of a sample that is guided to the end; how many are saved is known only afterwards."""
        return 1 if self.config.guidance_scale == 1 else 2

    def predict(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> torch.Tensor:
        import torch
        from torch.nn.functional import cosine_similarity

        from grasp_bench.known import known

        scale, t = self.config.guidance_scale, step.timesteps
        if scale == 1:
            return model.conditional(latents, t)
        guided = step.memory[GUIDED] if GUIDED in step.memory else known(torch.ones(len(t), dtype=torch.bool), t.device)
        conditional, unconditional = both_where(model, latents, t, guided)
        images = [model.objective.clean(latents, each, t).flatten(1) for each in (conditional, unconditional)]
        cosine = cosine_similarity(images[0], images[1])
        step.memory[GUIDED] = guided = guided & (cosine < self.config.threshold)
        unguided = ~guided.reshape(-1, *[1] * (latents.ndim - 1))
        return conditional.where(unguided, unconditional + scale * (conditional - unconditional))
