"""What long-tailed tasks of ten digits share whose split and rare classes are drawn by a run's seed."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, JsonValue, field_validator

from grasp_bench import seeds
from grasp_bench.contracts.task import GROUPS, ClassInfo, Dataset, Task, TaskSettings

if TYPE_CHECKING:
    from typing import Self

    import numpy as np
    import torch

    from grasp_bench.contracts.progress import Progress

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPLITS = 5
"""Number of splits: a run's seed modulo it says which one the run has."""
BY_SEED = "seed"
GROUP_SIZES = (3, 4, 3)
PARTS = ("train", "validation", "test", "pool")
FILE = "digits.safetensors"


class DigitsSettings(TaskSettings):
    """Settings of a task of digits."""

    class_order: str = Field(default=BY_SEED, pattern=rf"^({BY_SEED}|\d{{10}})$")
    """The ten digits from most to least frequent, such as 8217465930, for all seeds; "seed": drawn by the seed, since
    it matters which digits are rare"""

    @field_validator("class_order", mode="after")
    @classmethod
    def _each_once(cls, order: str) -> str:
        if order != BY_SEED and len(set(order)) != len(DIGITS):
            raise ValueError("each of the ten digits must appear once")
        return order


class SeededDigits(Task[DigitsSettings]):
    """Base of tasks of digits: a subclass loads the images and says how many of a class go where.

    Pool and validation are the same for every seed, and no split trains or tests on them.
    """

    Config: ClassVar[type[TaskSettings]] = DigitsSettings
    name: ClassVar[str]
    """The task's name, which keys its draws."""
    largest: ClassVar[int]
    """Training images of the most frequent class."""
    smallest: ClassVar[int]
    """Training images of the least frequent class."""
    pool: ClassVar[int]
    """Images per class that train the feature extractor."""
    validation: ClassVar[int]
    """Validation images per class."""
    test: ClassVar[int]
    """Test images per class."""
    guidance = "cfg"
    extractors = ("digits-cnn",)
    seed = 0

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """All images, uint8 (n, 1, H, W), and the digit on each, int64 (n,)."""
        raise NotImplementedError

    def for_seed(self, seed: int) -> Self:
        found = copy(self)
        found.seed = seed
        return found

    def drawn(self) -> dict[str, JsonValue]:
        return {"split": self.seed % SPLITS, "class_order": self.class_order}

    @property
    def class_order(self) -> str:
        """The ten digits from most to least frequent.

        Ten consecutive seeds from a multiple of ten on are the rows of a Latin square: each digit has each frequency
        once. Its rows are three apart, so that every digit is in the tail once or twice over the first five seeds.
        """
        if self.config.class_order != BY_SEED:
            return self.config.class_order
        square, row = divmod(self.seed, len(DIGITS))
        order = seeds.rng("class-order", self.name, square).permutation(len(DIGITS))
        return "".join(str(order[(rank + 3 * row) % len(DIGITS)]) for rank in range(len(DIGITS)))

    def classes(self) -> list[ClassInfo]:
        from grasp_bench.data.longtail import exponential_counts, rank_groups

        by_rank, order = exponential_counts(len(DIGITS), self.largest, self.smallest), self.class_order
        counts = [by_rank[order.index(str(digit))] for digit in range(len(DIGITS))]
        groups = rank_groups(counts, GROUP_SIZES, GROUPS)
        return [
            ClassInfo(str(digit), f"a handwritten digit {word}", group, count)
            for digit, (word, group, count) in enumerate(zip(DIGITS, groups, counts, strict=True))
        ]

    def prepare(self, folder: Path, progress: Progress) -> None:
        import torch

        from grasp_bench.io import write_tensors

        pixels, digits = self.load()
        images, labels = torch.from_numpy(pixels), torch.from_numpy(digits)
        tensors: dict[str, torch.Tensor] = {}
        for name, indices in zip(PARTS, self._split(digits), strict=True):
            tensors |= {f"{name}/images": images[indices], f"{name}/labels": labels[indices]}
            tensors[f"{name}/indices"] = torch.from_numpy(indices)
        write_tensors(folder / FILE, tensors)

    def open(self, folder: Path, shape: tuple[int, int, int]) -> Dataset:
        from grasp_bench.data.decode import split_of
        from grasp_bench.io import read_tensors

        tensors, source = read_tensors(folder / FILE), self.name.removesuffix("-lt")
        ids = {name: [f"{source}/{index}" for index in tensors[f"{name}/indices"].tolist()] for name in PARTS}
        return Dataset(*(split_of(tensors, name, ids[name], self.classes(), shape) for name in PARTS))

    def _split(self, labels: np.ndarray) -> list[np.ndarray]:
        """Indices of train, validation, test and pool.

        Pool and validation depend on nothing. The test set depends on the split alone, and a training set holds every
        smaller one of its class in the same split.
        """
        import numpy as np

        parts: list[list[np.ndarray]] = [[], [], [], []]
        for digit, info in enumerate(self.classes()):
            shuffled = seeds.rng("split", self.name, digit).permutation(np.flatnonzero(labels == digit))
            pool, validation, left = np.split(shuffled, [self.pool, self.pool + self.validation])
            left = seeds.rng("split", self.name, digit, self.seed % SPLITS).permutation(left)
            found = (left[self.test : self.test + info.train_count], validation, left[: self.test], pool)
            for part, indices in zip(parts, found, strict=True):
                part.append(indices)
        return [np.sort(np.concatenate(part)) for part in parts]
