"""The device tests find what must not be: each mistake here passes on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from grasp_bench.backbones.sd3 import MMDiT
from grasp_bench.baselines.lora import Lora
from grasp_bench.contracts.method import Batch
from grasp_bench.contracts.objective import FlowMatching
from grasp_bench.estimate.simulate import DeviceError

from .cases import subject
from .test_training import check, second_step

Losses = Callable[[Lora, Batch, torch.Tensor], torch.Tensor]


def by_way_of_the_host(self: Lora, batch: Batch, prediction: torch.Tensor) -> torch.Tensor:
    return (prediction.cpu() - batch.target.cpu()).square().flatten(1).mean(1).to(prediction.device)


def left_on_the_host(self: Lora, batch: Batch, prediction: torch.Tensor) -> torch.Tensor:
    return (prediction - torch.zeros(prediction.shape)).square().flatten(1).mean(1)


def noised_by_a_generator_of_the_host(self: Lora, batch: Batch, prediction: torch.Tensor) -> torch.Tensor:
    noise = torch.randn(prediction.shape, generator=batch.generator, device=prediction.device)
    return (prediction - noise).square().flatten(1).mean(1)


def in_double_precision(self: Lora, batch: Batch, prediction: torch.Tensor) -> torch.Tensor:
    return (prediction.double() - batch.target.double()).square().flatten(1).mean(1).float()


def one_by_one(self: Lora, batch: Batch, prediction: torch.Tensor) -> torch.Tensor:
    losses = (prediction - batch.target).square().flatten(1).mean(1)
    return losses * (1.0 if all(loss.item() > 0 for loss in losses) else 0.0)


def through_numpy(self: Lora, batch: Batch, prediction: torch.Tensor) -> torch.Tensor:
    return (prediction - batch.target).square().flatten(1).mean(1) * float(np.mean(prediction.detach().numpy()))


@pytest.mark.parametrize(
    ("losses", "error"),
    [
        (by_way_of_the_host, AssertionError),
        (left_on_the_host, RuntimeError),
        (noised_by_a_generator_of_the_host, DeviceError),
        (in_double_precision, AssertionError),
        (one_by_one, AssertionError),
        (through_numpy, DeviceError),
    ],
    ids=lambda value: value.__name__,
)
def test_a_mistake_in_a_loss_is_found(
    losses: Losses, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lora, "losses", losses)
    with pytest.raises(error):
        check(second_step(subject("sd3", tmp_path, "lora", "bfloat16")), "lora")


def test_noise_that_is_added_on_the_host_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = FlowMatching.add_noise

    def on_the_host(self: FlowMatching, latents: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return add(self, latents.cpu(), noise.cpu(), t.cpu()).to(latents.device)

    monkeypatch.setattr(FlowMatching, "add_noise", on_the_host)
    with pytest.raises(AssertionError):
        check(second_step(subject("sd3", tmp_path, "lora", "bfloat16")), "lora")


def test_a_weight_that_does_not_move_with_the_transformer_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = MMDiT.predict

    def shifted(self: MMDiT, *arguments: torch.Tensor) -> torch.Tensor:
        return predict(self, *arguments) + torch.ones(self.latent_shape)

    monkeypatch.setattr(MMDiT, "predict", shifted)
    with pytest.raises(RuntimeError, match="device"):
        second_step(subject("sd3", tmp_path, "lora", "bfloat16"))
