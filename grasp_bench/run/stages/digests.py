"""The digests stage: hashes of the task's real images, by which copies among images from elsewhere are found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from grasp_bench.io import read_tensors, write_tensors
from grasp_bench.run.context import Context, Inputs, Stage
from grasp_bench.run.plan import Plan

FILE = "digests.safetensors"
AT_ONCE = 1000  # images in memory at a time


def by_digest(folder: Path) -> dict[str, str]:
    """Return the sha256 (hex) of the pixels of every real image → the split that it is in."""
    return {row.numpy().tobytes().hex(): split for split, rows in read_tensors(folder / FILE).items() for row in rows}


def _inputs(plan: Plan, upstream: Mapping[str, str]) -> Inputs | None:
    if plan.entry is None:
        return None
    return {"prepare": upstream["prepare"], "shape": plan.shape}


def _build(context: Context, folder: Path, upstream: Mapping[str, Path]) -> None:
    import numpy as np
    import torch

    from grasp_bench.data.images import image_digest

    data = context.data
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    splits |= {"pool": data.pool} if data.pool else {}
    found: dict[str, torch.Tensor] = {}
    with context.progress.task("hash real images", sum(map(len, splits.values()))) as advance:
        for name, split in splits.items():
            rows = []
            for part in np.array_split(np.arange(len(split)), -(-len(split) // AT_ONCE)) if len(split) else ():
                rows += [bytes.fromhex(image_digest(image)) for image in split.read(part)]
                advance(len(part))
            found[name] = (
                torch.frombuffer(bytearray(b"".join(rows)), dtype=torch.uint8).view(-1, 32)
                if rows
                else (torch.empty((0, 32), dtype=torch.uint8))
            )
    write_tensors(folder / FILE, found)


STAGE = Stage("digests", 1, ("prepare",), _inputs, _build, alone=True, compared=False)
