"""CFG++: a guided estimate of the image, noised again with the unconditional estimate of the noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from grasp_bench.contracts.guidance import Guidance, Model, SamplingStep
from grasp_bench.contracts.settings import Settings, Tuned

if TYPE_CHECKING:
    import torch


class PlusSettings(Settings):
    """Settings of CFG++."""

    guidance_scale: Annotated[float, Tuned(0.1, 1)] = Field(default=0.6, ge=0, le=1)
    """λ in u + λ (c - u), the prediction behind the estimate of x_0; 0 unconditional (one NFE per step), and 1 is
    far from unguided"""


class ClassifierFreeGuidancePlus(Guidance[PlusSettings]):
    """CFG++: guides the estimate of the image, and noises it again with the unconditional estimate of the noise

    A first-order step from t to t' is (1 - t') x_0 + t' e of the two estimates. CFG++ takes x_0 from u + λ (c - u) and
    e from u. That is the step of classifier-free guidance with the weight λ t (1 - t') / (t - t'), or λ / (1 - r' / r)
    where r is t / (1 - t): see :func:`step_weight`. So the sampler stays as it is, and the two are the same for Euler's
    method under flow matching and DDIM under DDPM's diffusion. The weight grows with the number of sampling steps, to
    about a quarter of λ times that number in the middle of an even grid.

    A multistep solver such as DPM-Solver, which PixArt is sampled with, also extrapolates from the estimates of x_0 of
    the steps before. Its first-order part is CFG++, but what it extrapolates has the guidance's growing weight in it,
    while the paper's own variant keeps the two estimates apart: there the rule is an approximation.
    """

    Config = PlusSettings
    version = "1"
    paper = (
        "Chung et al. 2024, CFG++: Manifold-constrained Classifier Free Guidance for Diffusion Models, arXiv "
        "2406.08070. Expressed as a weight of classifier-free guidance per step: the same for Euler and DDIM, an "
        "approximation for multistep solvers"
    )

    @property
    def evaluations_per_step(self) -> int:
        return 1 if self.config.guidance_scale == 0 else 2

    def predict(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> torch.Tensor:
        if self.config.guidance_scale == 0:
            return model.unconditional(latents, step.timesteps)
        conditional, unconditional = model.both(latents, step.timesteps)
        weight = self.config.guidance_scale * step_weight(step.timesteps, step.next_timesteps).to(latents)
        return unconditional + weight.reshape(-1, *[1] * (latents.ndim - 1)) * (conditional - unconditional)


def step_weight(timesteps: torch.Tensor, next_timesteps: torch.Tensor) -> torch.Tensor:
    """The weight of classifier-free guidance that a step of CFG++ with λ = 1 has: t (1 - t') / (t - t'), (B,).

    It is finite at t = 1, where r = t / (1 - t) is not.
    """
    return timesteps * (1 - next_timesteps) / (timesteps - next_timesteps)
