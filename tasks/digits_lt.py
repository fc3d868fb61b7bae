"""Long-tailed handwritten digits, from scikit-learn: the task that needs no download."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, field_validator

from grasp_bench import seeds
from grasp_bench.contracts.spec import STANDARD, budget, by_name, smoke
from grasp_bench.contracts.task import GROUPS, ClassifierRecipe, ClassInfo, Dataset, Task, TaskSettings

if TYPE_CHECKING:
    import numpy as np
    import torch

    from grasp_bench.contracts.progress import Progress

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LARGEST, SMALLEST = 80, 4  # training images of the most and the least frequent class
TEST, VALIDATION = 60, 15  # images per class
GROUP_SIZES = (3, 4, 3)
SPLITS = ("train", "validation", "test", "pool")
FILE = "digits.safetensors"


class DigitsSettings(TaskSettings):
    """Settings of digits-lt."""

    class_order: str = Field(default="0123456789", pattern=r"^\d{10}$")
    """The ten digits from most to least frequent; which one is rare matters, since "1" is easy and "8" is hard"""

    @field_validator("class_order", mode="after")
    @classmethod
    def _each_once(cls, order: str) -> str:
        if len(set(order)) != len(DIGITS):
            raise ValueError("each of the ten digits must appear once")
        return order


class DigitsLT(Task[DigitsSettings]):
    """Handwritten digits, 8×8, long-tailed from 80 training images to 4; real data that ships with scikit-learn"""

    Config: ClassVar[type[TaskSettings]] = DigitsSettings
    version = "1"
    source = (
        "scikit-learn's load_digits: 1,797 images of the test part of Optical Recognition of Handwritten Digits "
        "(Alpaydin & Kaynak 1998, UCI, doi 10.24432/C50P49, CC BY 4.0). Split once by a fixed seed: 60 test and 15 "
        "validation images per class, the long-tailed training set, and the rest as a pool for the feature extractor"
    )
    backbone = "tiny-sd3"
    guidance = "cfg"
    extractors = ("digits-cnn",)
    classifier = ClassifierRecipe(epochs=40, batch_size=64, learning_rate=2e-3)
    budgets = by_name(
        budget(STANDARD, steps=600, batch_size=64, warmup_steps=30, images_per_class=60, num_inference_steps=20),
        smoke(16),
    )

    def classes(self) -> list[ClassInfo]:
        from grasp_bench.data.longtail import exponential_counts, rank_groups

        by_rank = exponential_counts(len(DIGITS), LARGEST, SMALLEST)
        counts = [by_rank[self.config.class_order.index(str(digit))] for digit in range(len(DIGITS))]
        groups = rank_groups(counts, GROUP_SIZES, GROUPS)
        return [
            ClassInfo(str(digit), f"a handwritten digit {word}", group, count)
            for digit, (word, group, count) in enumerate(zip(DIGITS, groups, counts, strict=True))
        ]

    def prepare(self, folder: Path, progress: Progress) -> None:
        import numpy as np
        import torch
        from sklearn.datasets import load_digits

        from grasp_bench.io import write_tensors

        data = load_digits()
        pixels = (data.images * (255 / 16)).round().astype(np.uint8)[:, None]
        images, labels = torch.from_numpy(pixels), torch.from_numpy(data.target)
        tensors: dict[str, torch.Tensor] = {}
        for name, indices in zip(SPLITS, self._split(data.target), strict=True):
            tensors |= {f"{name}/images": images[indices], f"{name}/labels": labels[indices]}
            tensors[f"{name}/indices"] = torch.from_numpy(indices)
        write_tensors(folder / FILE, tensors)

    def open(self, folder: Path, shape: tuple[int, int, int]) -> Dataset:
        from grasp_bench.data.decode import split_of
        from grasp_bench.io import read_tensors

        tensors = read_tensors(folder / FILE)
        ids = {name: [f"digits/{index}" for index in tensors[f"{name}/indices"].tolist()] for name in SPLITS}
        return Dataset(*(split_of(tensors, name, ids[name], self.classes(), shape) for name in SPLITS))

    def _split(self, labels: np.ndarray) -> list[np.ndarray]:
        """Indices of train, validation, test and pool; the test and validation sets do not depend on the settings."""
        import numpy as np

        parts: list[list[np.ndarray]] = [[], [], [], []]
        for digit, info in enumerate(self.classes()):
            shuffled = seeds.rng("split", "digits-lt", digit).permutation(np.flatnonzero(labels == digit))
            cuts = np.cumsum([TEST, VALIDATION, info.train_count])
            for part, indices in zip(parts, np.split(shuffled, cuts), strict=True):
                part.append(indices)
        test, validation, train, pool = (np.sort(np.concatenate(part)) for part in parts)
        return [train, validation, test, pool]
