"""The pixels stage: real images at the resolution of downstream classifiers, which read them in every epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from grasp_bench.contracts.task import Dataset, Split
from grasp_bench.run.context import Context, Inputs, Stage
from grasp_bench.run.plan import Plan

if TYPE_CHECKING:
    import numpy as np
    import torch

PIXELS = "pixels"
SHARD_BYTES = 2**26  # what an interrupted build may have to do again
AT_ONCE = 32  # images in memory at the backbone's resolution


def side(plan: Plan) -> int:
    """Return the pixels per side of what classifiers read."""
    return plan.recipe.resolution or plan.backbone.image_shape[1]


def cached(data: Dataset, folder: Path) -> Dataset:
    """Return the data as the finished stage in ``folder`` keeps them: memory-mapped, at the classifiers' resolution."""
    from grasp_bench.run.encoded import Shards

    def of(name: str, split: Split) -> Split:
        if not len(split):
            return split
        shards = Shards(folder, name)
        return replace(split, read=lambda indices: shards.rows(PIXELS, indices))

    found = {name: of(name, split) for name, split in _splits(data).items()}
    return Dataset(found["train"], found["validation"], found["test"], data.pool, found.get("balanced-test"))


def at_side(split: Split, side: int) -> Split:
    """Return a split whose images are resized as those of the stage are, when they are read."""
    return replace(split, read=lambda indices: resized(split.read(indices), side))


def resized(images: np.ndarray, side: int) -> np.ndarray:
    """uint8 (n, C, H, W) → uint8 (n, C, ``side``, ``side``), bilinear and antialiased; unchanged where they are so."""
    import torch
    from torch.nn import functional

    if images.shape[2:] == (side, side):
        return images
    pixels = torch.from_numpy(images).float()
    found = functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
    result: np.ndarray = found.round().clamp(0, 255).byte().numpy()
    return result


def _splits(data: Dataset) -> dict[str, Split]:
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    return splits | ({"balanced-test": data.balanced_test} if data.balanced_test else {})


def _inputs(plan: Plan, upstream: Mapping[str, str]) -> Inputs | None:
    if not plan.task.reads_files:
        return None
    return {"prepare": upstream["prepare"], "shape": plan.shape, "side": side(plan)}


def _build(context: Context, folder: Path, upstream: Mapping[str, Path]) -> None:
    import numpy as np
    import torch

    from grasp_bench.data.check import too_few_bytes
    from grasp_bench.run.encoded import write_shards

    size, splits = side(context.plan), _splits(context.data)
    each = context.plan.backbone.image_shape[0] * size * size
    if context.processes.is_first and not any(folder.iterdir()):
        too_few_bytes(folder, each * sum(map(len, splits.values())))
    for name, split in splits.items():

        def shard(rows: range, split: Split = split) -> dict[str, torch.Tensor]:
            parts = np.array_split(np.arange(rows.start, rows.stop), -(-len(rows) // AT_ONCE))
            return {PIXELS: torch.from_numpy(np.concatenate([resized(split.read(part), size) for part in parts]))}

        per_shard = max(1, SHARD_BYTES // each)
        write_shards(
            name, f"resize ({name})", len(split), per_shard, shard, folder, context.processes, context.progress
        )


STAGE = Stage("pixels", 1, ("prepare",), _inputs, _build, compared=False, cache=True)
