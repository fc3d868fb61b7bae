"""Long-tailed ImageNet."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from grasp_bench.contracts.spec import STANDARD, budget, by_name, smoke
from grasp_bench.contracts.task import ClassifierRecipe, ClassInfo, TaskSettings
from grasp_bench.data.fit import Fit
from grasp_bench.data.image_task import ImageTask, ImageTaskSettings
from grasp_bench.data.imagenet_lt import HEAD_ABOVE, TAIL_BELOW
from grasp_bench.errors import UserError

if TYPE_CHECKING:
    from grasp_bench.data.listing import Listing

NAMES = "LOC_synset_mapping.txt"
HEAD_CLASSES = 385
AWAY_FROM_HEAD = {"medium": (479, 50), "tail": (136, 12)}
"""Group → classes, as published (Liu et al. 2019, section 4.1: many, medium and few shot), and about their images."""


class ImageNetSettings(ImageTaskSettings):
    """Settings of imagenet-lt."""

    head_above: int = Field(default=HEAD_ABOVE, ge=0)
    """Classes of more training images are head; 100 as published"""
    tail_below: int = Field(default=TAIL_BELOW, ge=0)
    """Classes of fewer training images are tail; 20 as published"""


class ImageNetLT(ImageTask[ImageNetSettings]):
    """ImageNet-LT: 115,846 training photographs of 1,000 classes, from 1,280 images to 5"""

    Config: ClassVar[type[TaskSettings]] = ImageNetSettings
    version = "2"
    source = (
        "ILSVRC 2012 (Russakovsky et al. 2015; image-net.org, or Kaggle's imagenet-object-localization-challenge): for "
        "non-commercial research and education, by registration. Splits: ImageNet-LT (Liu et al., CVPR 2019), its "
        "three lists from the authors"
    )
    layout = (
        "FOLDER/train/n01440764/*.JPEG and FOLDER/val (flat, or a folder per wnid), or both under "
        f"FOLDER/ILSVRC/Data/CLS-LOC; FOLDER/{NAMES}; ImageNet_LT_{{train,val,test}}.txt in FOLDER or "
        "FOLDER/ImageNet_LT"
    )
    backbone = "sana-0.6b"
    second_backbone = "sd3.5-medium"
    resolution = 512
    guidance = "cfg"
    extractors = ("inception", "dinov2")
    fit = Fit(draft=True)
    classifier = ClassifierRecipe(
        network="timm:resnet50",
        epochs=90,
        batch_size=256,
        learning_rate=1e-3,
        augmentation=("flip", "crop"),
        class_weights="balanced",
        patience=20,
        resolution=224,
    )  # from scratch: weights of ImageNet were trained on what it is tested on
    budgets = by_name(
        budget(STANDARD, steps=50_000, batch_size=128, warmup_steps=500, images_per_class=50, num_inference_steps=30),
        smoke(),
    )
    official = True  # tests use small trees of the same shape

    @cached_property
    def _listing(self) -> Listing:
        from grasp_bench.data.imagenet_lt import SPLIT_TOTALS, read_imagenet_lt
        from grasp_bench.data.listing import readable

        with readable():
            return read_imagenet_lt(self.data, SPLIT_TOTALS if self.official else None)

    def listing(self) -> Listing:
        for name in self.counts():
            self.prompt(name)  # which needs the class's name
        return self._listing

    def counts(self) -> dict[str, int]:
        return dict(sorted(Counter(each.label for each in self._listing.entries if each.split == "train").items()))

    def outline(self) -> list[ClassInfo]:
        """The published number of classes of each group, and their images in all, alike within a group."""
        from grasp_bench.data.imagenet_lt import SPLIT_TOTALS

        rest = SPLIT_TOTALS["train"] - sum(classes * images for classes, images in AWAY_FROM_HEAD.values())
        sizes = {"head": (HEAD_CLASSES, rest // HEAD_CLASSES)} | AWAY_FROM_HEAD
        numbered = [(group, images) for group, (classes, images) in sizes.items() for _ in range(classes)]
        return [
            ClassInfo(f"class-{number:04}", f"a photo of class {number}", group, images)
            for number, (group, images) in enumerate(numbered)
        ]

    @cached_property
    def _names(self) -> dict[str, str]:
        from grasp_bench.data.imagenet_lt import read_class_names

        return read_class_names(self.data / NAMES)

    def prompt(self, name: str) -> str:
        if name not in self._names:
            raise UserError(
                f"{self.data / NAMES}: no line for class {name}. Take the file from the ILSVRC download again."
            )
        return f"a photo of a {self._names[name]}"
