"""Trajectories of a guidance, for what it or another sees on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from grasp_bench.contracts.guidance import Guidance, Workshop
from grasp_bench.contracts.progress import Advance
from grasp_bench.sampling import Sampler


def trajectories(
    workshop: Workshop,
    guidance: Guidance[Any],
    steps: int,
    labels: Sequence[int],
    keys: Sequence[tuple[int, ...]],
    at_once: int,
    advance: Advance,
) -> None:
    """Sample an image of each class in ``labels``, from the stream of its key, for what the guidance sees on the way.

    ``at_once`` of them are sampled together.
    """
    precision, prompts = workshop.spec.budget.precision, [info.prompt for info in workshop.task.classes()]
    sampler = Sampler(workshop.backbone, workshop.method, guidance, workshop.device, precision, workshop.embed)
    for start in range(0, len(labels), at_once):
        part = labels[start : start + at_once]
        streams = [workshop.generator("trajectory", *key) for key in keys[start : start + at_once]]
        noise = torch.stack([torch.randn(workshop.backbone.latent_shape, generator=stream) for stream in streams])
        sampler.denoise(noise, [prompts[label] for label in part], torch.tensor(part), steps, streams)
        advance(len(part))
