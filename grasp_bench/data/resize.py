"""A decoded image of any size → the size and channels of a backbone, by one rule for training and scoring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from grasp_bench.contracts.task import ClassInfo, Split

if TYPE_CHECKING:
    import torch


def resize(image: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """uint8 (3, H, W) → uint8 ``shape``, which is (3, S, S) or (1, S, S).

    One channel is luma by ITU-R 601, Pillow's "L". The shorter side becomes S and the longer one is cut to the same
    about its centre, one pixel more at its end where they are odd: the middle square is brought to S × S by Pillow's
    bicubic filter, which widens as it shrinks an image (antialiasing). Where the shorter side is S, pixels are kept.

    Raises ValueError for another ``shape``.
    """
    channels, size, width = shape
    if channels not in (1, 3) or size != width:
        raise ValueError(f"images cannot be made {shape}: expected (3, S, S) or (1, S, S)")
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    if channels == 1:
        picture = picture.convert("L")
    side = min(picture.size)
    left, top = ((length - side) // 2 for length in picture.size)
    square = picture.resize((size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    return np.ascontiguousarray(np.asarray(square).reshape(size, size, channels).transpose(2, 0, 1))


def resized(images: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """uint8 (k, 1 | 3, H, W) → uint8 (k, *``shape``), each by :func:`resize`; unchanged where they have that shape."""
    if images.shape[1:] == shape:
        return images
    colour = np.broadcast_to(images, (len(images), 3, *images.shape[2:]))
    return np.stack([resize(image, shape) for image in colour]) if len(images) else np.empty((0, *shape), np.uint8)


def split_of(
    tensors: Mapping[str, torch.Tensor],
    name: str,
    ids: Sequence[str],
    classes: Sequence[ClassInfo],
    shape: tuple[int, int, int],
) -> Split:
    """The split ``name`` of ``tensors``, its images uint8 (n, C, H, W) and labels (n,), read as images of ``shape``."""
    images, labels = tensors[f"{name}/images"].numpy(), tensors[f"{name}/labels"].numpy()
    return Split(
        ids=list(ids),
        labels=labels,
        prompts=[classes[label].prompt for label in labels],
        read=lambda indices: resized(images[indices], shape),
    )
