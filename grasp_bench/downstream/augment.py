"""Random augmentations of training images that preserve their class."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from grasp_bench.processes import sent

DEGREES = 10  # largest rotation, in either direction
PADDING = 8  # images are padded by the width over this before they are cropped


def augment(images: torch.Tensor, names: Sequence[str], generator: torch.Generator) -> torch.Tensor:
    """``images`` (B, C, H, W), each augmented by its own draw from ``generator``."""
    for name in names:
        images = AUGMENTATIONS[name](images, generator)
    return images


def _flip(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    chosen = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(sent(chosen, images.device)[:, None, None, None], images.flip(3), images)


def _crop(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shifts by up to an eighth of the width, in whole pixels, with reflection padding."""
    height, width = images.shape[2:]
    pad = max(1, width // PADDING)
    padded = functional.pad(images, (pad, pad, pad, pad), mode="reflect")
    corners = torch.randint(2 * pad + 1, (len(images), 2), generator=generator)
    return torch.stack(
        [image[:, y : y + height, x : x + width] for image, (y, x) in zip(padded, corners.tolist(), strict=True)]
    )


def _rotate(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Rotates bilinearly about the centre, with border padding."""
    angles = (torch.rand(len(images), generator=generator) * 2 - 1) * math.radians(DEGREES)
    cosines, sines = angles.cos(), angles.sin()
    height, width = images.shape[2:]
    zeros = torch.zeros_like(sines)
    entries = [cosines, -sines * height / width, zeros, sines * width / height, cosines, zeros]
    matrices = torch.stack(entries, dim=1).view(-1, 2, 3)
    grid = functional.affine_grid(sent(matrices, images.device), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


AUGMENTATIONS = {"flip": _flip, "crop": _crop, "rotate": _rotate}
