"""Training objectives: what is noised, when, and what the network is asked to predict.

All share one clock t in [0, 1], 0 at the data and 1 at the noise: the noise's share of a noisy latent's amplitude.
Where x = a x_0 + s e, t = s / (a + s); under flow matching that is t itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import torch

from grasp_bench.contracts.recipe import PLAIN, BackboneRecipe
from grasp_bench.errors import UserError
from grasp_bench.processes import sent

TIMESTEPS = 1000  # of diffusers' transformers, whose clocks run to 1000 and whose schedules have as many steps


class Objective(ABC):
    """A noise schedule and what the network predicts under it."""

    @abstractmethod
    def timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """``count`` training timesteps t in [0, 1]."""

    def weights(self, timesteps: torch.Tensor) -> torch.Tensor | None:
        """What the losses of samples at ``timesteps`` (B,) are multiplied by, (B,); None stands for 1.

        That is all of what ``Method.losses`` gives, terms of the method's own included, and not auxiliary losses.
        """
        return None

    @abstractmethod
    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """x_t for latents and noise (B, ...) and timesteps (B,)."""

    @abstractmethod
    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """What the network is asked for: (B, ...)."""

    @abstractmethod
    def clean(self, noisy: torch.Tensor, prediction: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The estimate of x_0 that a prediction at x_t implies: (B, ...)."""

    @abstractmethod
    def prediction(self, noisy: torch.Tensor, clean: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The prediction at x_t that implies the estimate ``clean`` of x_0: (B, ...); t must not be 0."""

    @abstractmethod
    def clock(self, timesteps: torch.Tensor) -> torch.Tensor:
        """The number that diffusers' transformers and schedulers know ``timesteps`` (B,) by."""

    @abstractmethod
    def levels(self, scheduler: Any) -> torch.Tensor:
        """t at every sampling step of a scheduler of diffusers' and at the end, descending to 0: (steps + 1,)."""


class FlowMatching(Objective):
    """Rectified flow (Esser et al. 2024, arXiv 2403.03206, section 3.1), with timesteps as a recipe has them.

    x_t = (1 - t) x_0 + t e, and the target is the velocity e - x_0. Without a recipe timesteps are logit-normal(0, 1).
    """

    def __init__(self, recipe: BackboneRecipe = PLAIN) -> None:
        """``recipe`` gives the density and the shift of timesteps, and the weighting of losses."""
        self.drawn, self.weighting = recipe.timesteps, recipe.weighting

    def timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """``count`` timesteps in (0, 1): draws of the recipe's density, then shifted.

        diffusers' scripts take the step of the shifted schedule whose index is a thousandth part of such a draw; these
        are the same levels, but not rounded to a thousand of them.
        """
        from diffusers.training_utils import compute_density_for_timestep_sampling

        rule = self.drawn
        drawn: torch.Tensor = compute_density_for_timestep_sampling(
            "logit_normal" if rule.density == "logit-normal" else "none",
            count,
            logit_mean=rule.mean,
            logit_std=rule.std,
            generator=generator,
        )
        return drawn if rule.shift == 1 else rule.shift * drawn / (1 + (rule.shift - 1) * drawn)

    def weights(self, timesteps: torch.Tensor) -> torch.Tensor | None:
        """t², which makes the error of the velocity that of the implied x_0 = x_t - t v, or None."""
        return timesteps.square() if self.weighting == "squared noise share" else None

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        t = _broadcast(timesteps, latents)
        return (1 - t) * latents + t * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The velocity that carries data to noise: (B, ...)."""
        return noise - latents

    def clean(self, noisy: torch.Tensor, prediction: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The estimate of x_0 that a prediction implies: x_t - t v."""
        return noisy - _broadcast(timesteps, noisy) * prediction

    def prediction(self, noisy: torch.Tensor, clean: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The velocity (x_t - x_0) / t."""
        return (noisy - clean) / _broadcast(timesteps, noisy)

    def clock(self, timesteps: torch.Tensor) -> torch.Tensor:
        return timesteps * TIMESTEPS

    def levels(self, scheduler: Any) -> torch.Tensor:
        """Share t of the noise at every sampling step and at the end: (steps + 1,).

        Where t is rounded for the network, as by diffusers' DPM-Solver to whole steps, it is the rounded one.
        """
        if scheduler.timesteps.is_floating_point():
            sigmas: torch.Tensor = scheduler.sigmas
            return sigmas
        return torch.cat([scheduler.timesteps / TIMESTEPS, torch.zeros(1, device=scheduler.timesteps.device)])


class VariancePreserving(Objective):
    """The diffusion of DDPM (Ho et al. 2020, arXiv 2006.11239): x_t = a x_0 + s e with a² + s² = 1, at K fixed steps.

    The network predicts the noise e or, with ``velocity``, a e - s x_0 (Salimans & Ho 2022, arXiv 2202.00512).
    Training steps are drawn evenly. A timestep t stands for the step of the schedule whose s / (a + s) is nearest.
    """

    def __init__(self, alphas_cumprod: torch.Tensor, velocity: bool = False) -> None:
        """``alphas_cumprod`` (K,) is a² of every step, descending, as diffusers' schedulers have it."""
        squares = alphas_cumprod.double()
        self.signal, self.noise = squares.sqrt(), (1 - squares).sqrt()  # (K,)
        self.shares = self.noise / (self.signal + self.noise)  # ascending
        self.velocity = velocity
        self._placed: dict[torch.device, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}

    @classmethod
    def of(cls, scheduler: Any) -> Self:
        """The objective of what a scheduler of diffusers' samples.

        Raises :class:`UserError` where its network predicts something other than the noise or the velocity.
        """
        predicted = scheduler.config.prediction_type
        if predicted not in ("epsilon", "v_prediction"):
            raise UserError(
                f"scheduler/scheduler_config.json of the saved pipeline: prediction_type is {predicted!r}, expected "
                "'epsilon' or 'v_prediction'. Choose another pipeline, or fix the file."
            )
        return cls(scheduler.alphas_cumprod, velocity=predicted == "v_prediction")

    def timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        return self.shares[torch.randint(len(self.shares), (count,), generator=generator)].float()

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        a, s = self._amplitudes(timesteps, latents)
        return a * latents + s * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The noise, or a e - s x_0: (B, ...)."""
        if not self.velocity:
            return noise
        a, s = self._amplitudes(timesteps, latents)
        return a * noise - s * latents

    def clean(self, noisy: torch.Tensor, prediction: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The estimate of x_0 that a prediction implies: (x_t - s e) / a, or a x_t - s v."""
        a, s = self._amplitudes(timesteps, noisy)
        return a * noisy - s * prediction if self.velocity else (noisy - s * prediction) / a

    def prediction(self, noisy: torch.Tensor, clean: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The noise (x_t - a x_0) / s, or (a x_t - x_0) / s."""
        a, s = self._amplitudes(timesteps, noisy)
        return (a * noisy - clean) / s if self.velocity else (noisy - a * clean) / s

    def clock(self, timesteps: torch.Tensor) -> torch.Tensor:
        """Indices of the schedule's steps: int64 (B,)."""
        shares, _, _ = self._on(timesteps.device)
        above = torch.searchsorted(shares, timesteps.double().contiguous()).clamp(1, len(shares) - 1)
        return above - (timesteps - shares[above - 1] < shares[above] - timesteps).long()

    def levels(self, scheduler: Any) -> torch.Tensor:
        shares = self.shares[scheduler.timesteps.cpu().long()]
        return torch.cat([shares, shares.new_zeros(1)])

    def _amplitudes(self, timesteps: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """a and s at ``timesteps``, to be multiplied with ``like``."""
        _, signal, noise = self._on(timesteps.device)
        steps = self.clock(timesteps)
        return _broadcast(signal[steps], like), _broadcast(noise[steps], like)

    def _on(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Shares and amplitudes a and s of every step on a device, copied there once."""
        if device not in self._placed:
            self._placed[device] = (self.shares.to(device), self.signal.to(device), self.noise.to(device))
        return self._placed[device]


def _broadcast(timesteps: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return sent(timesteps.to(like.dtype), like.device).reshape(-1, *[1] * (like.ndim - 1))
