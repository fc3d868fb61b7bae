"""A run of all stages with many generated images of 64×64, in a process of its own: what memory each stage adds.

``python -m run.measured_memory IMAGES FOLDER`` prints stage → bytes as JSON.
"""

from __future__ import annotations

import ctypes
import gc
import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
import torch
from helpers.runs import Listener, options
from testing.registered import register

from grasp_bench.backbones.tiny_sd3 import TinySD3Family
from grasp_bench.contracts.backbone import Description
from grasp_bench.contracts.extractor import Extractor
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.spec import STANDARD, budget, by_name
from grasp_bench.contracts.task import ClassifierRecipe, ClassInfo, Dataset, Split, Task, TaskSettings
from grasp_bench.downstream import classifier
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.plan import plan
from grasp_bench.run.stages import score

CLASSES, SIDE = 10, 64
SPLITS = {"train": 20, "validation": 5, "test": 10}
"""Split → real images per class."""


class At64(TinySD3Family):
    """One block of SD3's transformer on 64×64 colour pixels, as it was initialised"""

    name: ClassVar[str] = "at-64"
    revision = "1"
    image_shape = (3, SIDE, SIDE)
    architecture: ClassVar[dict[str, Any]] = {
        "patch_size": 16,
        "num_layers": 1,
        "attention_head_dim": 16,
        "num_attention_heads": 1,
        "caption_projection_dim": 16,
    }
    prompt_length: ClassVar[int] = 12

    @classmethod
    def describe(cls, source: str, resolution: int | None = None) -> Description:
        return Description(cls.revision, cls.image_shape)

    @classmethod
    def load(cls, source: str = "", resolution: int | None = None) -> Self:
        backbone = cls.initialise()
        backbone.transformer.requires_grad_(False).eval()
        return backbone


class ManyImages(Task[TaskSettings]):
    """Noise, of which many images are generated"""

    version = "1"
    source = "drawn"
    backbone = "a-at64"
    guidance = "none"
    extractors = ("a-means",)
    classifier = ClassifierRecipe(epochs=1, batch_size=100, learning_rate=2e-3, resolution=8, seeds=1)
    budgets = by_name()

    def classes(self) -> list[ClassInfo]:
        groups = ("head", "medium", "tail")
        return [ClassInfo(f"{row}", f"kind {row}", groups[row % 3], SPLITS["train"]) for row in range(CLASSES)]

    def prepare(self, folder: Path, progress: Progress) -> None:
        (folder / "none").touch()

    def open(self, folder: Path, shape: tuple[int, int, int]) -> Dataset:
        rng = np.random.default_rng(0)
        splits = []
        for name, each in SPLITS.items():
            labels = np.arange(CLASSES).repeat(each)
            images = rng.integers(0, 256, (len(labels), *shape), np.uint8)
            prompts = [f"kind {label}" for label in labels]
            splits.append(Split([f"{name}/{row}" for row in range(len(labels))], labels, prompts, images.__getitem__))
        return Dataset(*splits)


class Means(Extractor):
    """Means of the channels' quarters"""

    version = "1"

    @classmethod
    def build(cls, data: Dataset, classes: int, folder: Path) -> None:
        (folder / "none").touch()

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls()

    def features(self, images: np.ndarray) -> np.ndarray:
        parts = images.reshape(len(images), 3, 2, SIDE // 2, 2, SIDE // 2)
        return parts.mean((3, 5), np.float64).reshape(len(images), 12)


def anonymous() -> int:
    """Return the resident bytes of this process that are no part of a file: what mapping a file does not raise."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"RssAnon:\s+(\d+) kB", status)[0]) * 1024


@contextmanager
def most(found: dict[str, int], name: str) -> Iterator[None]:
    """Add to ``found`` how many bytes more than at its beginning the block has taken at most.

    What earlier blocks left free is given back first: a block that takes it again would seem to take nothing.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before, seen, ended = anonymous(), [0], threading.Event()

    def look() -> None:
        while not ended.wait(0.002):
            seen.append(anonymous() - before)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield
    finally:
        ended.set()
        looking.join()
        found[name] = max(seen)


def main(images: int, folder: Path) -> dict[str, int]:
    """Run every stage with so many generated images in ``folder``, and return stage → bytes of memory it took."""
    with pytest.MonkeyPatch.context() as patch:
        for kind, plugin in (("tasks", ManyImages), ("extractors", Means), ("backbones", At64)):
            register(patch, kind, plugin)
        standard = budget(
            STANDARD, steps=2, batch_size=4, warmup_steps=1, num_inference_steps=1, images_per_class=images // CLASSES
        )
        patch.setattr(ManyImages, "budgets", by_name(standard))
        patch.setattr(classifier, "IN_MEMORY", 2**22)  # else a classifier keeps so few images on purpose
        chosen = plan(method="lora", task="a-manyimages")
        pipeline = Pipeline(chosen, options(folder, batch_size=100), torch.device("cpu"), Listener())
        found: dict[str, int] = {}
        for name in filter(pipeline.has, pipeline.stages):
            with most(found, name):
                pipeline.folder(name)
        (folder / "pictures").mkdir()
        with most(found, "pictures"):
            score.write_pictures(pipeline, folder / "pictures")
        assert len(pipeline.images) == images
        assert pipeline.images.read(np.array([images - 1])).shape == (1, 3, SIDE, SIDE)
        return found


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), Path(sys.argv[2]))))
