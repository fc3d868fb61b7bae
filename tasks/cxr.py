"""What the tasks of chest X-rays share: groups, classifier and budgets, equal so that their rows compare."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from pydantic import Field

from grasp_bench.contracts.spec import STANDARD, budget, by_name, smoke
from grasp_bench.contracts.task import ClassifierRecipe, TaskSettings
from grasp_bench.data.cxr_lt import HEAD_ABOVE, TAIL_BELOW, phrase
from grasp_bench.data.fit import Fit
from grasp_bench.data.image_task import ImageTask, ImageTaskSettings

RAD_DINO = "hf:microsoft/rad-dino"
"""Features of a network that was trained on chest X-rays alone (Pérez-García et al. 2024, arXiv 2401.10815)."""


class CxrSettings(ImageTaskSettings):
    """Settings of the X-ray tasks."""

    head_above: int = Field(default=HEAD_ABOVE, ge=0)
    """Classes of more training images are head; 1000 as published"""
    tail_below: int = Field(default=TAIL_BELOW, ge=0)
    """Classes of fewer training images are tail; 100 as published"""


class GeneratedCxrSettings(CxrSettings):
    """Settings of the X-ray tasks that a generator is fine-tuned on."""

    added: ClassVar[frozenset[str]] = CxrSettings.added | {"view"}

    view: bool = False
    """Keep each image's view position as the column `view`, for methods that use it"""


C_co = TypeVar("C_co", bound=CxrSettings, covariant=True)


class CxrTask(ImageTask[C_co]):
    """Base of the tasks of chest X-rays; their classifier is DenseNet-121, by settings of our choice."""

    Config: ClassVar[type[TaskSettings]] = CxrSettings
    healthy: ClassVar[tuple[str, ...]] = ("No Finding",)
    fit = Fit("pad", draft=True)  # a crop would cut off lungs
    backbone = "sana-0.6b"
    second_backbone = "sd3.5-medium"
    resolution = 512
    network_weights = "ra_in1k"
    guidance = "cfg"
    classifier = ClassifierRecipe(
        network="timm:densenet121",
        epochs=60,
        batch_size=128,
        learning_rate=1e-4,
        augmentation=("flip", "rotate"),
        class_weights="balanced",
        patience=15,
        seeds=3,
        resolution=224,
    )
    budgets = by_name(
        budget(STANDARD, steps=20_000, batch_size=64, warmup_steps=500, images_per_class=200, num_inference_steps=30),
        smoke(),
    )
    official = True  # tests use small trees of the same shape

    def prompt(self, name: str) -> str:
        return f"a chest X-ray showing {phrase(name)}"
