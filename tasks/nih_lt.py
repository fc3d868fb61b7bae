"""What a generator of chest X-rays is good for elsewhere: a classifier of NIH images, trained on what it makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from grasp_bench.contracts.task import Task, TaskSettings
from grasp_bench.data.cxr_lt import NIH_TRAIN_COUNTS, SHARED_CLASSES

from .cxr import CxrSettings
from .nih_lt_gen import NihTask

if TYPE_CHECKING:
    from grasp_bench.data.listing import Listing


class NihSettings(CxrSettings):
    """Settings of nih-lt."""

    generator: Literal["mimic-lt", "nih-lt-gen"] = "mimic-lt"
    """Task that the generator is fine-tuned on; nih-lt-gen for those without credentials for MIMIC"""


class NihLT(NihTask[NihSettings]):
    """Downstream: a generator fine-tuned on mimic-lt makes the 13 classes that NIH-CXR-LT shares with it"""

    Config: ClassVar[type[TaskSettings]] = NihSettings
    version = "1"

    @property
    def generator(self) -> str:
        return self.config.generator

    def generator_classes(self, generator: Task[TaskSettings]) -> list[int]:
        position = {info.name: index for index, info in enumerate(generator.classes())}
        own = self.config.generator == "nih-lt-gen"
        return [position[info.name if own else SHARED_CLASSES[info.name]] for info in self.classes()]

    def listing(self) -> Listing:
        from dataclasses import replace

        listing = super().listing()
        return replace(listing, entries=[entry for entry in listing.entries if entry.label in SHARED_CLASSES])

    def counts(self) -> dict[str, int]:
        return {name: count for name, count in NIH_TRAIN_COUNTS.items() if name in SHARED_CLASSES}
