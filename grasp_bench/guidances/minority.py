"""Self-guided sampling of minorities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from grasp_bench.contracts.guidance import Guidance, Model, SamplingStep
from grasp_bench.contracts.settings import Settings, Tuned
from grasp_bench.guidances.cfg import BASE_SCALE, BaseScale, base_prediction
from grasp_bench.known import on_host
from grasp_bench.processes import sent

if TYPE_CHECKING:
    import torch


class MinoritySettings(Settings):
    """Settings of self-guided minority sampling."""

    guidance_scale: Annotated[float, Tuned(0.04, 4, log=True)] = Field(default=0.4, ge=0, le=100)
    """w: displacement in units of the variance that DDPM adds in the step; 0: none"""
    every: int = Field(default=5, ge=1, le=1000)
    """Steps from one displacement to the next, of which the first step has one"""
    renoise_timestep: float = Field(default=0.756, gt=0, lt=1)
    """Noise share t that the estimate is noised to again, 0.8 T in the paper: 0.756 under the cosine schedule, 0.836
    under Stable Diffusion's and 0.962 under DDPM's linear one"""
    base_scale: BaseScale = 1.0

    added: ClassVar[frozenset[str]] = BASE_SCALE


class MinorityGuidance(Guidance[MinoritySettings]):
    """Self-guided minority sampling: steps towards images that the network would not find again from their noise

    The estimate x̂ of the clean image is noised again and estimated again, x̂'. Their distance
    L = mean (x̂ - stop-gradient x̂')² is large for images far from what the network expects, and
    g = ∇L / max|∇L| is taken at x_t, through the network, each sample by itself. The paper displaces DDPM's next state
    by w Σ g, where Σ is the variance of the step. The same displacement of a state without added noise follows from
    the noise levels alone. With n(t)² = (1 - t)² + t², a variance-preserving state has a = (1 - t) / n, s = t / n, and
    divided by a + s = 1 / n it is x_t = (1 - t) x_0 + t e. DDPM's variance from t to t' is
    Σ = (s' / s)² (1 - (a / a')²), so x_t' moves by w κ g with

        κ(t, t') = n' Σ = n' (t' n / (n' t))² (1 - ((1 - t) n' / ((1 - t') n))²),

    finite at t = 1 and 0 at t' = 0, where nothing is evaluated. A first-order sampler makes x_t' = (t' / t) x_t
    + (1 - t' / t) x̂ of an estimate x̂ (Euler under flow matching, DDIM under diffusion; and DPM-Solver of order one),
    so it moves by that much when x̂ moves by w κ g t / (t - t'): this is the prediction returned. A multi-step solver
    also carries the moved estimate into its extrapolation: it overshoots by its weight on the newest estimate and takes
    part of it back in the next step, so that w means less there.

    **The level of noise.** The paper's 0.8 T says nothing without a schedule. Its commands for CelebA and ImageNet at
    64 × 64 have the cosine schedule, where it is t = 0.756, and we take that, since latents of 64 × 64 are the most
    common here. Version 1 took 0.96, of the linear schedule. How much the second estimate can find again depends on
    the size, too: on a Gaussian with the 1 / f² spectrum of natural images, a perfect network finds 46 % of the
    estimate's energy again at 16 × 64 × 64 from t = 0.756, and 5.6 % from 0.96, where the distance is little more than
    that from the mean image; at 1 × 8 × 8 it is 19 % and 0.5 %.

    **At other sizes of latents.** The mean over elements cancels in g, whose largest entry is 1 at any size. The root
    mean square of its entries is less, the more there are: 0.39 at 1 × 8 × 8 and 0.23 at 16 × 64 × 64, were they
    Gaussian. So the same w moves a latent of 16 × 64 × 64 0.6 times as far per element.

    Simplified: the distance is the mean square of latents, not LPIPS; one draw of noise; and Σ is DDPM's, not learned.
    A step that is displaced costs two NFE and a backward pass through the network. With classifier-free guidance
    beneath, the gradient is still of the conditional estimate alone, and the estimate that is moved is the guided one.
    """

    Config = MinoritySettings
    version = "2"
    paper = (
        "after Um & Ye 2024, Self-Guided Generation of Minority Samples Using Diffusion Models, arXiv 2407.11555; the "
        "port to deterministic samplers and the distance of latents are our own choices"
    )

    def evaluations(self, steps: int) -> int:
        """A second one every so many steps, except in the last, which leads into the image."""
        displaced = 0 if self.config.guidance_scale == 0 else -(-(steps - 1) // self.config.every)
        return steps * (1 + (self.config.base_scale != 1)) + displaced

    def predict(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> torch.Tensor:
        due = step.index % self.config.every == 0 and bool(on_host(step.next_timesteps).any())
        if self.config.guidance_scale == 0 or not due:
            return base_prediction(model, latents, step.timesteps, self.config.base_scale)[1]
        clean, direction = self._ascent(model, latents, step)
        t, following = step.timesteps, step.next_timesteps
        size = self.config.guidance_scale * displacement(t, following) * t / (t - following)
        shifted = clean + size.reshape(-1, *[1] * (latents.ndim - 1)) * direction
        return model.objective.prediction(latents, shifted, t)

    def _ascent(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> tuple[torch.Tensor, torch.Tensor]:
        """The base's estimate (B, ...) of clean latents, and the direction (B, ...) whose largest entry is 1 or -1."""
        import torch

        with torch.enable_grad():
            noisy = latents.detach().requires_grad_()
            conditional = model.conditional(noisy, step.timesteps)
            clean = model.objective.clean(noisy, conditional, step.timesteps)
            again = self._estimate_again(model, clean.detach(), step)
            loss = (clean - again).square().flatten(1).mean(1)
            (gradient,) = torch.autograd.grad(loss.sum(), noisy)
        largest = gradient.abs().flatten(1).amax(1).clamp_min(1e-30)  # no direction to go in where it vanishes
        direction = gradient / largest.reshape(-1, *[1] * (gradient.ndim - 1))
        if self.config.base_scale == 1:
            return clean.detach(), direction
        unconditional = model.unconditional(latents, step.timesteps)
        base = unconditional + self.config.base_scale * (conditional.detach() - unconditional)
        return model.objective.clean(latents, base, step.timesteps), direction

    def _estimate_again(self, model: Model, clean: torch.Tensor, step: SamplingStep) -> torch.Tensor:
        """The network's estimate (B, ...) after noising ``clean`` with a draw of each sample's own."""
        import torch

        with torch.no_grad():
            each = [torch.randn(clean.shape[1:], generator=generator) for generator in step.generators]
            timesteps = torch.full_like(step.timesteps, self.config.renoise_timestep)
            noisy = model.objective.add_noise(clean, sent(torch.stack(each).to(clean.dtype), clean.device), timesteps)
            return model.objective.clean(noisy, model.conditional(noisy, timesteps), timesteps)


def displacement(timesteps: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
    """κ(t, t') of :class:`MinorityGuidance`, for t > t' in [0, 1], both (B,)."""
    n, n_following = (((1 - t).square() + t.square()).sqrt() for t in (timesteps, following))
    noise = following * n / (n_following * timesteps)  # s' / s
    signal = (1 - timesteps) * n_following / ((1 - following) * n)  # a / a'
    return n_following * noise.square() * (1 - signal.square())
