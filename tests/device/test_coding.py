"""Encoding and decoding of images by the autoencoder of every family, as if on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from grasp_bench.backbones.saved import SavedBackbone
from grasp_bench.backbones.sd3 import MMDiT
from grasp_bench.estimate.simulate import DeviceError
from grasp_bench.estimate.steps import Coding, coding

from .cases import subject
from .tiny import PIPELINES

IMAGES = 2
QUICK = {"sd3", "sana"}
"""Families whose autoencoders are of two kinds; the others have one of them."""
Decode = Callable[[SavedBackbone, torch.Tensor], torch.Tensor]


def check(found: Coding) -> None:
    """Raise AssertionError for what coding on a GPU should not do: images go there once, nothing else moves."""
    assert not found.encode.syncs
    assert found.encode.uploads.total() <= 1, found.encode.uploads
    assert not found.decode.syncs
    assert not found.decode.uploads
    assert not found.encode.float64
    assert not found.decode.float64
    assert found.encode.flops > 0
    assert found.decode.flops > 0


@pytest.mark.parametrize(
    "family", [pytest.param(each, marks=[] if each in QUICK else [pytest.mark.slow]) for each in PIPELINES]
)
def test_coding_stays_on_the_device(family: str, tmp_path: Path) -> None:
    check(coding(subject(family, tmp_path, "lora", "bfloat16"), IMAGES))


def rounded_on_the_host(self: SavedBackbone, latents: torch.Tensor) -> torch.Tensor:
    return ((self.decode(latents).cpu() / 2 + 0.5).clamp(0, 1) * 255).round().byte()


def given_latents_of_the_host(self: SavedBackbone, latents: torch.Tensor) -> torch.Tensor:
    return self.decode(torch.zeros(latents.shape)).byte()


def shifted_by_the_host(self: SavedBackbone, latents: torch.Tensor) -> torch.Tensor:
    return self.decode(latents) + torch.full((1, 3, 1, 1), 0.5)


def drawn_by_a_generator_of_the_host(self: SavedBackbone, latents: torch.Tensor) -> torch.Tensor:
    noise = torch.randn(latents.shape, generator=torch.Generator(), device=latents.device)
    return self.decode(latents + noise)


def in_double_precision(self: SavedBackbone, latents: torch.Tensor) -> torch.Tensor:
    return (self.decode(latents).double() * 255).round().byte()


@pytest.mark.parametrize(
    ("decode", "error"),
    [
        (rounded_on_the_host, AssertionError),
        (given_latents_of_the_host, AssertionError),
        (shifted_by_the_host, RuntimeError),
        (drawn_by_a_generator_of_the_host, DeviceError),
        (in_double_precision, AssertionError),
    ],
    ids=lambda value: value.__name__,
)
def test_a_mistake_in_decoding_is_found(
    decode: Decode, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MMDiT, "decode_latents", decode)
    with pytest.raises(error):
        check(coding(subject("sd3", tmp_path, "lora", "bfloat16"), IMAGES))
