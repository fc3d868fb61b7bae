"""Long-tailed CIFAR-10 and CIFAR-100, which papers on long-tail generation report on."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from grasp_bench.contracts.spec import STANDARD, Budget, budget, by_name, smoke
from grasp_bench.contracts.task import ClassifierRecipe, ClassInfo, Dataset, Task, TaskSettings
from grasp_bench.data.image_task import ImageTaskSettings
from grasp_bench.data.longtail import groups_by_count

if TYPE_CHECKING:
    import numpy as np
    import torch

    from grasp_bench.contracts.progress import Progress
    from grasp_bench.data.cifar import Cifar

FILE = "cifar.safetensors"
INDICES = "train-indices.json"
SPLITS = ("train", "validation", "test")
VALIDATION_SHARE = 0.1  # of the official test images


class CifarSettings(ImageTaskSettings):
    """Settings of the CIFAR tasks."""

    imbalance: float = Field(default=100, ge=1, le=500)
    """Training images of the most frequent class over those of the rarest"""
    split_seed: int = Field(default=0, ge=0)
    """Which images a class keeps; `train-indices.json` beside the data lists them"""
    head_above: int = Field(default=1000, ge=0)
    """Classes of more training images are head"""
    tail_below: int = Field(default=200, ge=0)
    """Classes of fewer training images are tail"""


class Cifar100Settings(CifarSettings):
    """Settings of cifar100-lt."""

    head_above: int = Field(default=100, ge=0)
    """Classes of more training images are head; 100 as in the classification literature"""
    tail_below: int = Field(default=20, ge=0)
    """Classes of fewer training images are tail; 20 as in the classification literature"""


def _budgets(images: int) -> dict[str, Budget]:
    """Standard is sized for one GPU-hour by arithmetic (about 90 GFLOPs per step); it has not been timed on one."""
    return by_name(
        budget(
            STANDARD, steps=50_000, batch_size=128, warmup_steps=500, images_per_class=images, num_inference_steps=30
        ),
        smoke(16),
    )


class CifarLT(Task[CifarSettings]):
    """Base of both CIFAR tasks."""

    kind: ClassVar[Literal[10, 100]]
    source = (
        "CIFAR-10/100 (Krizhevsky 2009; cs.toronto.edu/~kriz/cifar.html), cut to an exponential profile (Cui et al., "
        "CVPR 2019). 1,000 of the official test images, equally many per class, are for validation, the others for "
        "testing. Rows here fine-tune a small pretrained transformer: they do not compare with papers that train a "
        "U-Net from scratch"
    )
    backbone = "tiny-sd3-32"
    guidance = "cfg"
    extractors = ("inception",)
    classifier = ClassifierRecipe(
        network="small-cnn",
        epochs=60,
        batch_size=128,
        learning_rate=2e-3,
        augmentation=("flip", "crop"),
        class_weights="balanced",
        patience=15,
        seeds=3,
    )

    @cached_property
    def _cifar(self) -> Cifar:
        from grasp_bench.data.cifar import read_cifar

        return read_cifar(self.data, self.kind)

    @cached_property
    def _train_indices(self) -> np.ndarray:
        from grasp_bench.data.cifar import long_tail_indices

        return long_tail_indices(self._cifar.train_labels, self.config.imbalance, self.config.split_seed)

    def classes(self) -> list[ClassInfo]:
        return self._classes

    @cached_property
    def _classes(self) -> list[ClassInfo]:
        import numpy as np

        names = self._cifar.class_names
        found = np.bincount(self._cifar.train_labels[self._train_indices], minlength=len(names))
        counts = dict(zip(names, found.tolist(), strict=True))
        groups = groups_by_count(counts, self.config.head_above, self.config.tail_below)
        return [
            ClassInfo(name, f"a photo of a {name.replace('_', ' ')}", groups[name], count)
            for name, count in counts.items()
        ]

    def check(self, progress: Progress) -> int:
        return len(self._cifar.train_labels) + len(self._cifar.test_labels)

    def prepare(self, folder: Path, progress: Progress) -> None:
        import numpy as np
        import torch

        from grasp_bench.io import write_json, write_tensors

        cifar, train, validation = self._cifar, self._train_indices, self._validation_indices()
        test = np.setdiff1d(np.arange(len(cifar.test_labels)), validation)
        sources = {"train": (cifar.train_images, cifar.train_labels, train)}
        for name, indices in (("validation", validation), ("test", test)):
            sources[name] = (cifar.test_images, cifar.test_labels, indices)
        tensors: dict[str, torch.Tensor] = {}
        for name, (images, labels, indices) in sources.items():
            tensors[f"{name}/images"] = torch.from_numpy(images[indices])
            tensors[f"{name}/labels"] = torch.from_numpy(labels[indices])
        if shared := _in_both(tensors["train/images"], torch.cat([tensors[f"{n}/images"] for n in SPLITS[1:]])):
            progress.say(f"{shared} training images are test or validation images too, byte for byte, as published")
        write_tensors(folder / FILE, tensors)
        write_json(folder / INDICES, train.tolist())

    def _validation_indices(self) -> np.ndarray:
        """Indices of the test images that are used for validation: equally many per class."""
        import numpy as np

        from grasp_bench.seeds import rng

        labels, each = self._cifar.test_labels, VALIDATION_SHARE * len(self._cifar.test_labels) // self.kind
        pools = [rng("cifar-validation", c).permutation(np.flatnonzero(labels == c)) for c in range(self.kind)]
        return np.sort(np.concatenate([pool[: int(each)] for pool in pools]))

    def open(self, folder: Path, shape: tuple[int, int, int]) -> Dataset:
        from grasp_bench.data.decode import split_of
        from grasp_bench.io import read_tensors

        tensors = read_tensors(folder / FILE)
        ids = {name: [f"{name}/{row:05}" for row in range(len(tensors[f"{name}/labels"]))] for name in SPLITS}
        return Dataset(*(split_of(tensors, name, ids[name], self.classes(), shape) for name in SPLITS))

    def download(self) -> None:
        from torchvision.datasets import CIFAR10, CIFAR100
        from torchvision.datasets.utils import download_and_extract_archive

        known = CIFAR10 if self.kind == 10 else CIFAR100
        download_and_extract_archive(known.url, str(self.data), filename=known.filename, md5=known.tgz_md5)


def _in_both(first: torch.Tensor, second: torch.Tensor) -> int:
    """How many of the images ``first`` (n, C, H, W) are among ``second``."""
    known = {image.numpy().tobytes() for image in second}
    return sum(image.numpy().tobytes() in known for image in first)


class Cifar10LT(CifarLT):
    """CIFAR-10 cut to an exponential long tail: from 5,000 training images to 50 at an imbalance of 100"""

    Config: ClassVar[type[TaskSettings]] = CifarSettings
    version = "1"
    kind = 10
    layout = "FOLDER/cifar-10-batches-bin or FOLDER/cifar-10-batches-py, unpacked as downloaded"
    downloads = True
    budgets = _budgets(1000)


class Cifar100LT(CifarLT):
    """CIFAR-100 (fine labels) cut to an exponential long tail: from 500 training images to 5 at an imbalance of 100"""

    Config: ClassVar[type[TaskSettings]] = Cifar100Settings
    version = "1"
    kind = 100
    layout = "FOLDER/cifar-100-binary or FOLDER/cifar-100-python, unpacked as downloaded"
    downloads = True
    budgets = _budgets(100)
