"""Entries of the open division, on the digits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from grasp_bench.contracts.entry import Entry, Request
from grasp_bench.processes import ALONE
from grasp_bench.run.entry.plan import plan_entry
from helpers.runs import Listener

if TYPE_CHECKING:
    import torch


def request(each: int, known: Mapping[str, str] | None = None, seed: int = 0, **changes) -> Request:
    """What an entry on the digits is asked for, with ``each`` images per class."""
    import torch

    plan = plan_entry(Entry("an-entry", {}), "digits-lt", budget="smoke", seed=seed)
    spec = plan.spec.model_copy(update={"budget": plan.spec.budget.model_copy(update={"images_per_class": each})})
    task = changes.pop("task", plan.task)
    subjects = [(info.prompt, index) for index, info in enumerate(plan.task.classes()) for _ in range(each)]
    labels = torch.tensor([index for _, index in subjects])
    own = {"shape": plan.backbone.image_shape, "device": torch.device("cpu"), "batch_size": 8} | changes
    asked = {"sampled": lambda: (subjects, labels), "known": lambda: known or {}}
    return Request(spec, task, processes=ALONE, progress=Listener(), **asked, **own)


def save_images(folder: Path, images: torch.Tensor, labels: torch.Tensor) -> Path:
    """Greyscale images (n, 1, H, W) of the digits as PNG, in a sub-folder per class, in their order."""
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        of_class = folder / str(int(label))
        of_class.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(of_class / f"{number:05}.png")
    return folder


def random_images(folder: Path, each: int, side: int = 8, seed: int = 0) -> Path:
    """``each`` images of noise of every digit."""
    import torch

    pixels = np.random.default_rng(seed).integers(0, 256, (10 * each, 1, side, side), dtype=np.uint8)
    return save_images(folder, torch.from_numpy(pixels), torch.arange(10).repeat_interleave(each))
