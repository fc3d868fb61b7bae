"""Latents of images and embeddings of prompts, computed once and read from the disk by every step.

Both are kept in shards of safetensors, each whole or absent, so that an interrupted encoding continues where it stopped
and several processes divide the shards between them.
"""

from __future__ import annotations

import bisect
import functools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from grasp_bench.checked import find_checked, save_checked, undamaged
from grasp_bench.contracts.backbone import Backbone, PromptEmbeddings
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.task import Split
from grasp_bench.data.check import too_few_bytes
from grasp_bench.io import mapped_tensor, write_json
from grasp_bench.memory import Portion
from grasp_bench.processes import Processes

LATENTS = "latents"
IMAGES_PER_SHARD = 256
IMAGES_AT_ONCE = 16
PROMPTS = "prompts"
PROMPTS_PER_SHARD = 64  # about 350 MB at the size of SD3
VOCABULARY = "prompts.json"


def encode_latents(
    split: Split, backbone: Backbone, mirrored: bool, folder: Path, processes: Processes, progress: Progress
) -> None:
    """Write the latents of a split's images to ``folder``, and with ``mirrored`` also those of their mirror images."""
    portion = Portion(IMAGES_AT_ONCE, "images are encoded", progress.say)

    def shard(rows: range) -> dict[str, torch.Tensor]:
        images = torch.from_numpy(split.read(np.arange(rows.start, rows.stop)))
        views = {"latents": images} | ({"mirrored": images.flip(-1)} if mirrored else {})
        return {
            name: torch.cat(list(portion.over(view, lambda part: backbone.encode_images(part).cpu())))
            for name, view in views.items()
        }

    write_shards(LATENTS, "encode images", len(split), IMAGES_PER_SHARD, shard, folder, processes, progress)


class Latents:
    """The latents of a split's images, read from the disk as they are used."""

    def __init__(self, folder: Path) -> None:
        self.shards = Shards(folder, LATENTS)

    def read(self, indices: np.ndarray, mirrored: np.ndarray) -> torch.Tensor:
        """Return latents (B, C, h, w) of images, or of their mirror images where ``mirrored`` (B,) is true."""
        rows = [
            self.shards.row("mirrored" if flip else "latents", int(index))
            for index, flip in zip(indices, mirrored, strict=True)
        ]
        return torch.from_numpy(np.stack(rows))


class Pixels:
    """The latents of a split's images, computed as they are used, for backbones without an autoencoder."""

    def __init__(self, split: Split, backbone: Backbone) -> None:
        self.split, self.backbone = split, backbone

    def read(self, indices: np.ndarray, mirrored: np.ndarray) -> torch.Tensor:
        """Return what :meth:`Latents.read` returns."""
        images = torch.from_numpy(self.split.read(indices))
        flips = torch.from_numpy(mirrored)[:, None, None, None]
        return self.backbone.encode_images(torch.where(flips, images.flip(-1), images) if mirrored.any() else images)


def encode_prompts(
    prompts: Sequence[str], backbone: Backbone, folder: Path, processes: Processes, progress: Progress
) -> None:
    """Write the embeddings of ``prompts`` to ``folder``."""
    portion = Portion(PROMPTS_PER_SHARD, "prompts are encoded", progress.say)

    def encoded(rows: range) -> dict[str, torch.Tensor]:
        return backbone.encode_prompts([prompts[row] for row in rows]).tensors()

    def shard(rows: range) -> dict[str, torch.Tensor]:
        parts = list(portion.over(rows, encoded))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    write_shards(PROMPTS, "encode prompts", len(prompts), PROMPTS_PER_SHARD, shard, folder, processes, progress)
    if processes.is_first:
        write_json(folder / VOCABULARY, list(prompts))


class StoredPrompts:
    """Embeddings that :func:`encode_prompts` wrote, read from the disk as they are used."""

    def __init__(self, folder: Path) -> None:
        self.shards = Shards(folder, PROMPTS)
        self.rows = {prompt: row for row, prompt in enumerate(json.loads((folder / VOCABULARY).read_text()))}

    def __call__(self, prompts: Sequence[str]) -> PromptEmbeddings:
        """Return the embeddings of prompts that were encoded."""
        found = {
            name: np.stack([self.shards.row(name, self.rows[prompt]) for prompt in prompts])
            for name in self.shards.names
        }
        return PromptEmbeddings(**{name: torch.from_numpy(rows) for name, rows in found.items()})


class KnownPrompts:
    """Embeddings of prompts that are kept in memory, for backbones without a text encoder."""

    def __init__(self, prompts: Sequence[str], backbone: Backbone) -> None:
        known = sorted(set(prompts))
        self.rows = {prompt: row for row, prompt in enumerate(known)}
        self.embeddings = backbone.encode_prompts(known)

    def __call__(self, prompts: Sequence[str]) -> PromptEmbeddings:
        """Return the embeddings of prompts that are known."""
        return self.embeddings[torch.tensor([self.rows[prompt] for prompt in prompts])]


def write_shards(
    kind: str,
    name: str,
    count: int,
    size: int,
    shard: Callable[[range], dict[str, torch.Tensor]],
    folder: Path,
    processes: Processes,
    progress: Progress,
) -> None:
    """Write the tensors that ``shard`` returns for each block of ``size`` rows that is not in ``folder`` yet.

    Raises :class:`~grasp_bench.errors.UserError` before the first is written where all would not have room.
    """
    done = processes.first_says(lambda: [number for number, _ in undamaged(folder, kind, progress.say)])
    there = sum(min(size, count - start) for start in done)
    missing = [start for start in range(0, count, size) if start not in done]
    with progress.task(name, count, there) as advance, processes.apart(folder):
        for start in processes.share(missing):
            rows = range(start, min(start + size, count))
            tensors = shard(rows)
            if processes.is_first and start == missing[0]:
                of_row = sum(each.nbytes for each in tensors.values()) / len(rows)
                too_few_bytes(folder, math.ceil(of_row * (count - there)))
            save_checked(folder, kind, start, tensors)
            advance(len(rows))


class Shards:
    """Rows of tensors in consecutive shards."""

    def __init__(self, folder: Path, kind: str) -> None:
        found = find_checked(folder, kind)
        self.starts, self.paths = [start for start, _ in found], [path for _, path in found]
        self._mapped = functools.cache(mapped_tensor)

    @functools.cached_property
    def names(self) -> list[str]:
        """The names of the tensors."""
        from safetensors import safe_open

        with safe_open(self.paths[0], "pt") as file:
            return list(file.keys())

    def row(self, name: str, number: int) -> np.ndarray:
        """Return one row of the tensor ``name``."""
        shard = bisect.bisect_right(self.starts, number) - 1
        found: np.ndarray = self._mapped(self.paths[shard], name)[number - self.starts[shard]]
        return found

    def rows(self, name: str, numbers: np.ndarray) -> np.ndarray:
        """Return rows of the tensor ``name``: (k, ...)."""
        first = self.row(name, 0)
        found = np.empty((len(numbers), *first.shape), first.dtype)
        for at, number in enumerate(numbers):
            found[at] = self.row(name, int(number))
        return found
