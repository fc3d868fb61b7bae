"""Splits whose images are held in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from grasp_bench.contracts.task import ClassInfo, Split
from grasp_bench.data.resize import resized


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
