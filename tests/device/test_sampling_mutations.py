"""The device tests of sampling find what must not be in a step: each mistake here passes on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from grasp_bench.backbones.sd3 import SD3
from grasp_bench.contracts.guidance import Model, SamplingStep
from grasp_bench.estimate.simulate import DeviceError
from grasp_bench.estimate.steps import sampling_steps
from grasp_bench.guidances.cfg import ClassifierFreeGuidance

from .cases import subject
from .test_sampling import IMAGES, check

Predict = Callable[[ClassifierFreeGuidance, Model, torch.Tensor, SamplingStep], torch.Tensor]

Step = Callable[..., Any]


def by_way_of_the_host(
    self: ClassifierFreeGuidance, model: Model, latents: torch.Tensor, step: SamplingStep
) -> torch.Tensor:
    conditional, unconditional = (each.cpu() for each in model.both(latents, step.timesteps))
    return (unconditional + 2 * (conditional - unconditional)).to(latents.device)


def left_on_the_host(
    self: ClassifierFreeGuidance, model: Model, latents: torch.Tensor, step: SamplingStep
) -> torch.Tensor:
    return model.conditional(latents, step.timesteps) + torch.zeros(latents.shape)


def noised_by_a_generator_of_the_host(
    self: ClassifierFreeGuidance, model: Model, latents: torch.Tensor, step: SamplingStep
) -> torch.Tensor:
    noise = torch.randn(latents.shape, generator=step.generators[0], device=latents.device)
    return model.conditional(latents, step.timesteps) + noise


def drawn_on_the_host(
    self: ClassifierFreeGuidance, model: Model, latents: torch.Tensor, step: SamplingStep
) -> torch.Tensor:
    noise = torch.randn(latents.shape, generator=step.generators[0])
    return model.conditional(latents, step.timesteps) + noise.to(latents.device)


def in_double_precision(
    self: ClassifierFreeGuidance, model: Model, latents: torch.Tensor, step: SamplingStep
) -> torch.Tensor:
    return model.conditional(latents, step.timesteps).double().tanh().float()


def as_far_as_a_norm(
    self: ClassifierFreeGuidance, model: Model, latents: torch.Tensor, step: SamplingStep
) -> torch.Tensor:
    prediction = model.conditional(latents, step.timesteps)
    return prediction if prediction.norm().item() < 1 else prediction / 2


def through_numpy(
    self: ClassifierFreeGuidance, model: Model, latents: torch.Tensor, step: SamplingStep
) -> torch.Tensor:
    prediction = model.conditional(latents, step.timesteps)
    return prediction * float(prediction.detach().numpy().mean())


def sample(folder: Path) -> None:
    check(*sampling_steps(subject("sd3", folder, "lora", "bfloat16"), IMAGES, (1, 2)), "lora", "cfg")


def test_a_step_without_a_mistake_passes(tmp_path: Path) -> None:
    sample(tmp_path)


@pytest.mark.parametrize(
    ("predict", "error"),
    [
        (by_way_of_the_host, AssertionError),
        (left_on_the_host, RuntimeError),
        (noised_by_a_generator_of_the_host, DeviceError),
        (drawn_on_the_host, AssertionError),
        (in_double_precision, AssertionError),
        (as_far_as_a_norm, AssertionError),
        (through_numpy, DeviceError),
    ],
    ids=lambda value: value.__name__,
)
def test_a_mistake_in_a_guidance_is_found(
    predict: Predict, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClassifierFreeGuidance, "predict", predict)
    with pytest.raises(error):
        sample(tmp_path)


def step_by_way_of_the_host(scheduler: Any, step: Step, prediction: torch.Tensor, *rest: Any, **options: Any) -> Any:
    return tuple(each.cpu().to(prediction.device) for each in step(prediction, *rest, **options))


def step_by_a_value(scheduler: Any, step: Step, prediction: torch.Tensor, *rest: Any, **options: Any) -> Any:
    return step(prediction * (1.0 if scheduler.sigmas[-1].item() == 0 else 0.5), *rest, **options)


@pytest.mark.parametrize("mistaken", [step_by_way_of_the_host, step_by_a_value], ids=lambda value: value.__name__)
def test_a_mistake_in_a_scheduler_is_found(
    mistaken: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = SD3.scheduler

    def made(self: SD3, steps: int, device: torch.device) -> Any:
        found = scheduler(self, steps, device)
        found.step = partial(mistaken, found, found.step)
        return found

    monkeypatch.setattr(SD3, "scheduler", made)
    with pytest.raises(AssertionError):
        sample(tmp_path)
