"""Random changes of training images that leave their class as it is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

DEGREES = 10  # of a rotation, either way
PADDING = 8  # an image is padded by this part of its width before it is cropped


def augment(images: torch.Tensor, names: Sequence[str], generator: torch.Generator) -> torch.Tensor:
    """``images`` (B, C, H, W), each changed by a draw of its own from ``generator``."""
    for name in names:
        images = AUGMENTATIONS[name](images, generator)
    return images


def _flip(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    chosen = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(chosen.to(images.device)[:, None, None, None], images.flip(3), images)


def _crop(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shifted by up to an eighth of the width, in whole pixels; what comes in from outside mirrors the edge."""
    height, width = images.shape[2:]
    pad = max(1, width // PADDING)
    padded = functional.pad(images, (pad, pad, pad, pad), mode="reflect")
    corners = torch.randint(2 * pad + 1, (len(images), 2), generator=generator)
    return torch.stack(
        [image[:, y : y + height, x : x + width] for image, (y, x) in zip(padded, corners.tolist(), strict=True)]
    )


def _rotate(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Bilinear, about the centre; what comes in from outside repeats the edge."""
    angles = (torch.rand(len(images), generator=generator) * 2 - 1) * math.radians(DEGREES)
    cosines, sines = angles.cos(), angles.sin()
    height, width = images.shape[2:]
    rows = torch.stack(
        [
            torch.stack([cosines, -sines * height / width, torch.zeros_like(sines)], dim=1),
            torch.stack([sines * width / height, cosines, torch.zeros_like(sines)], dim=1),
        ],
        dim=1,
    )
    grid = functional.affine_grid(rows.to(images), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


AUGMENTATIONS = {"flip": _flip, "crop": _crop, "rotate": _rotate}
