"""Long-tailed chest X-rays of NIH ChestX-ray14: data that anybody may download."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from grasp_bench.contracts.task import Task, TaskSettings
from grasp_bench.data.cxr_lt import NIH_TRAIN_COUNTS, SHARED_CLASSES

from .cxr import RAD_DINO, C_co, CxrSettings, CxrTask, GeneratedCxrSettings

if TYPE_CHECKING:
    from grasp_bench.data.listing import Listing


class NihTask(CxrTask[C_co]):
    """What the tasks on NIH-CXR-LT share: the download and its classes."""

    source = (
        "NIH ChestX-ray14 (Wang et al., CVPR 2017; nihcc.app.box.com/v/ChestXray-NIHCC), free for all: cite the paper "
        "and acknowledge the NIH Clinical Center. Splits: NIH-CXR-LT (Holste et al. 2022, arXiv 2208.13365), label "
        "files from its authors"
    )
    layout = (
        "FOLDER/images/00000001_000.png, or FOLDER/images_001/images/… to images_012 as downloaded; "
        "nih-cxr-lt_single-label_{train,balanced-val,test,balanced-test}.csv in FOLDER, FOLDER/LongTailCXR or "
        "FOLDER/labels"
    )

    def listing(self) -> Listing:
        from grasp_bench.data.cxr_lt import NIH_COUNTS, read_nih

        return read_nih(self.data, NIH_COUNTS if self.official else None)

    def counts(self) -> dict[str, int]:
        return NIH_TRAIN_COUNTS


class NihLTGen(NihTask[GeneratedCxrSettings]):
    """NIH-CXR-LT, single label: 68,058 training X-rays of 20 classes, from 45,439 images to 7; free to download"""

    Config: ClassVar[type[TaskSettings]] = GeneratedCxrSettings
    extractors = ("inception", RAD_DINO)
    whole_test = True  # the rarest class leaves 67 images for every group
    version = "2"
    layout = f"{NihTask.layout}; for view=true, Data_Entry_2017_v2020.csv there"

    def listing(self) -> Listing:
        from grasp_bench.data.cxr_lt import with_nih_views

        listing = super().listing()
        return with_nih_views(listing, self.data) if self.config.view else listing


class NihSettings(CxrSettings):
    """Settings of nih-lt."""

    generator: Literal["mimic-lt", "nih-lt-gen"] = "mimic-lt"
    """Task that the generator is fine-tuned on; nih-lt-gen for those without credentials for MIMIC"""


class NihLT(NihTask[NihSettings]):
    """Downstream: a generator fine-tuned on mimic-lt makes the 13 classes that NIH-CXR-LT shares with it"""

    Config: ClassVar[type[TaskSettings]] = NihSettings
    version = "2"

    @property
    def generator(self) -> str:
        return self.config.generator

    def generator_classes(self, generator: Task[TaskSettings]) -> list[int]:
        position = {info.name: index for index, info in enumerate(generator.classes())}
        own = self.config.generator == "nih-lt-gen"
        return [position[info.name if own else SHARED_CLASSES[info.name]] for info in self.classes()]

    def listing(self) -> Listing:
        listing = super().listing()
        return replace(listing, entries=[entry for entry in listing.entries if entry.label in SHARED_CLASSES])

    def counts(self) -> dict[str, int]:
        return {name: count for name, count in NIH_TRAIN_COUNTS.items() if name in SHARED_CLASSES}
