"""Sampling from the pretrained backbone, for methods that look at what it draws before they are attached."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from grasp_bench.contracts.backbone import Backbone, PromptEmbeddings


def sampled(
    backbone: Backbone,
    noise: torch.Tensor,
    prompts: PromptEmbeddings,
    steps: int,
    scale: float = 1.0,
    null: PromptEmbeddings | None = None,
) -> torch.Tensor:
    """Latents (B, ...) of the images that the backbone as it is makes of ``noise`` (B, ...) in ``steps``.

    ``scale`` is that of classifier-free guidance against the null condition ``null``, and without one, or at 1, there
    is no guidance.
    """
    scheduler = backbone.scheduler(steps, noise.device)
    times = backbone.objective.levels(scheduler).to(noise)
    latents = noise
    for index, timestep in enumerate(scheduler.timesteps):
        t = times[index].expand(len(latents))
        prediction = backbone.predict(latents, t, prompts)
        if null is not None and scale != 1:
            unconditional = backbone.predict(latents, t, null)
            prediction = unconditional + scale * (prediction - unconditional)
        latents = scheduler.step(prediction, timestep, latents, return_dict=False)[0].to(latents)
    return latents
