"""How long a run on a tiny backbone takes, by passes of its transformer that are timed where it is going to run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

    from grasp_bench.contracts.backbone import Backbone
    from grasp_bench.run.plan import Plan

REPEATS = 2
"""Times that a pass is timed after one that warms up; the quickest counts."""


class Timed(NamedTuple):
    """What passes of a transformer say of a run."""

    train: float
    """Seconds of all training steps, if every parameter is trained and the method adds no pass."""
    generate: float
    """Seconds of all network evaluations of generated images."""


def timed(plan: Plan, device: torch.device, batch_size: int) -> Timed:
    """Return what a run takes on ``device``, with ``batch_size`` images generated at a time.

    Nothing is left of it: the backbone that it loads is its own, and torch's generators are as they were.
    """
    import torch

    trained, budget = plan.trained_on, plan.spec.budget
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        backbone = plan.backbone.load().to(device)
        backbone.transformer.requires_grad_(True).train()
        steps = trained.spec.budget.steps
        train = steps * _seconds(_training(backbone, trained, device), device) if steps else 0.0
        images = budget.images_per_class * len(plan.task.classes())
        at_once = min(batch_size, images)
        evaluations = plan.guidance.evaluations(plan.guidance.steps(budget))
        sample = _seconds(_sampling(backbone, trained, device, at_once), device)
    return Timed(train, sample * evaluations * images / at_once)


def _training(backbone: Backbone, plan: Plan, device: torch.device) -> Callable[[], object]:
    """Return a forward and a backward pass of a training step's images."""
    import torch

    predict = _predict(backbone, plan, plan.spec.budget.batch_size, device, torch.float32)
    return lambda: predict().square().mean().backward()


def _sampling(backbone: Backbone, plan: Plan, device: torch.device, images: int) -> Callable[[], object]:
    """Return a network evaluation of images, in the precision in which the backbone samples."""
    import torch

    dtype = getattr(torch, backbone.sampling_dtype)
    torch.nn.Module.to(backbone.transformer.eval(), dtype)
    return torch.no_grad()(_predict(backbone, plan, images, device, dtype))


def _predict(
    backbone: Backbone, plan: Plan, images: int, device: torch.device, dtype: torch.dtype
) -> Callable[[], torch.Tensor]:
    """Return a forward pass of ``images`` blank latents at the middle timestep, with prompts of the task."""
    import torch

    named = [info.prompt for info in plan.task.classes()]
    backbone.set_classes(named)
    latents = torch.zeros(images, *backbone.latent_shape, dtype=dtype, device=device)
    times = torch.full((images,), 0.5, dtype=dtype, device=device)
    prompts = backbone.encode_prompts([named[number % len(named)] for number in range(images)]).to(latents)
    return lambda: backbone.predict(latents, times, prompts)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the quickest of some calls, after one that warms up."""
    import torch

    found = []
    for _ in range(1 + REPEATS):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - started)
    return min(found[1:])
