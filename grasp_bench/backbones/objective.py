"""Training objectives: what is noised, when, and what the network is asked to predict."""

from __future__ import annotations

import torch


class FlowMatching:
    """Rectified flow with logit-normal timesteps (Esser et al. 2024, arXiv 2403.03206, section 3.1).

    The clock runs from 0 (data) to 1 (noise): x_t = (1 - t) x_0 + t e, and the target is the velocity e - x_0.
    """

    def timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """``count`` timesteps in (0, 1), logit-normal(0, 1)."""
        from diffusers.training_utils import compute_density_for_timestep_sampling

        drawn: torch.Tensor = compute_density_for_timestep_sampling(
            "logit_normal", count, logit_mean=0.0, logit_std=1.0, generator=generator
        )
        return drawn

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """x_t for latents and noise (B, ...) and timesteps (B,)."""
        t = _broadcast(timesteps, latents)
        return (1 - t) * latents + t * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The velocity that carries data to noise: (B, ...)."""
        return noise - latents

    def clean(self, noisy: torch.Tensor, prediction: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The estimate of x_0 that a prediction implies: x_t - t v."""
        return noisy - _broadcast(timesteps, noisy) * prediction


def _broadcast(timesteps: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return timesteps.to(like).reshape(-1, *[1] * (like.ndim - 1))
