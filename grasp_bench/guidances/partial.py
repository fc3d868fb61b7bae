"""The unconditional branch for a part of a batch, as guidances need that are done with some samples or steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from grasp_bench.contracts.guidance import Model


def both_where(
    model: Model, latents: torch.Tensor, timesteps: torch.Tensor, chosen: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(conditional, unconditional) predictions (B, ...); the second is evaluated where ``chosen`` (B,) is true.

    Elsewhere the second repeats the first, so that their difference is exactly zero.
    """
    if chosen.all():
        return model.both(latents, timesteps)
    conditional = model.conditional(latents, timesteps)
    unconditional = conditional.clone()
    if chosen.any():
        unconditional[chosen] = model.rows(chosen).unconditional(latents[chosen], timesteps[chosen])
    return conditional, unconditional
