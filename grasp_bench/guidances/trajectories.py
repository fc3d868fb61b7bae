"""Trajectories of a guidance, for what it or another sees on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch

from grasp_bench.contracts.guidance import Guidance, Workshop
from grasp_bench.contracts.progress import Advance
from grasp_bench.memory import Portion
from grasp_bench.sampling import Sampler

G = TypeVar("G", bound=Guidance[Any])


def trajectories(
    workshop: Workshop,
    recorder: Callable[[range], G],
    steps: int,
    labels: Sequence[int],
    keys: Sequence[tuple[int, ...]],
    at_once: int,
    advance: Advance,
) -> Iterator[G]:
    """Sample an image of each class in ``labels``, from the stream of its key; yield the guidance of each part.

    ``recorder`` makes a guidance for those of the images whose numbers it is given, which keeps what it sees on the
    way. ``at_once`` images are sampled together, or fewer where memory runs out.
    """
    precision, prompts = workshop.spec.budget.precision, [info.prompt for info in workshop.task.classes()]
    portion = Portion(at_once, "trajectories are sampled", workshop.progress.say)

    def sampled(part: range) -> G:
        guidance, classes = recorder(part), [labels[number] for number in part]
        sampler = Sampler(workshop.backbone, workshop.method, guidance, workshop.device, precision, workshop.embed)
        streams = [workshop.generator("trajectory", *keys[number]) for number in part]
        noise = torch.stack([torch.randn(workshop.backbone.latent_shape, generator=stream) for stream in streams])
        sampler.denoise(noise, [prompts[label] for label in classes], torch.tensor(classes), steps, streams)
        advance(len(part))
        return guidance

    return portion.over(range(len(labels)), sampled)
