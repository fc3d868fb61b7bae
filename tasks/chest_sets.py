"""Long-tailed chest X-rays with all of their labels: ChestX-ray14, free for all, and CXR-LT, credentialed."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

from pydantic import Field

from grasp_bench.contracts.task import ClassInfo, TaskSettings
from grasp_bench.data.image_task import LabelSetSettings

from .cxr import RAD_DINO, CxrSettings, CxrTask

if TYPE_CHECKING:
    from grasp_bench.data.listing import Listing


class SetsOfCxrSettings(LabelSetSettings, CxrSettings):
    """Settings of the X-ray tasks with several labels per image."""


C_co = TypeVar("C_co", bound=SetsOfCxrSettings, covariant=True)


class CxrSetsTask(CxrTask[C_co]):
    """Base of the X-ray tasks with several labels per image, whose counts are those of the label files."""

    multilabel = True
    extractors = ("inception", RAD_DINO)
    healthy = ("No Finding", "Normal")

    def listing(self) -> Listing:
        return self._listing

    @cached_property
    def _listing(self) -> Listing:
        return self.read()

    def read(self) -> Listing:
        """Every image of the download with its labels, and whatever is wrong with its files."""
        raise NotImplementedError

    def counts(self) -> dict[str, int]:
        from grasp_bench.data.label_sets import label_counts

        found = label_counts(self.listing().entries)
        return dict(sorted(found.items(), key=lambda each: (-each[1], each[0])))

    def train_images(self) -> int:
        return self.published_images() if self.root is None else super().train_images()

    def published_images(self) -> int:
        """The number of training images as it is published."""
        raise NotImplementedError


class NihMultiSettings(SetsOfCxrSettings):
    """Settings of nih-lt-multi."""

    head_above: int = Field(default=5000, ge=0)
    """Labels of more training images are head; our choice, by which 4 are"""
    tail_below: int = Field(default=1400, ge=0)
    """Labels of fewer training images are tail; our choice, by which 5 are"""
    validation_share: float = Field(default=0.125, gt=0, lt=1)
    """Share of the patients of train_val_list that are drawn for validation: a tenth of all images"""
    split_seed: int = Field(default=0, ge=0)
    """Seed of that draw"""


class NihLTMulti(CxrSetsTask[NihMultiSettings]):
    """ChestX-ray14 with all of its labels: 14 findings and No Finding, official test patients; free to download"""

    Config: ClassVar[type[TaskSettings]] = NihMultiSettings
    version = "1"
    source = (
        "NIH ChestX-ray14 (Wang et al., CVPR 2017; nihcc.app.box.com/v/ChestXray-NIHCC), free for all: cite the paper "
        "and acknowledge the NIH Clinical Center. Test patients are the official ones; validation is drawn here from "
        "the patients of train_val_list"
    )
    layout = (
        "FOLDER/images/00000001_000.png, or FOLDER/images_001/images/… to images_012 as downloaded; "
        "Data_Entry_2017_v2020.csv, train_val_list.txt and test_list.txt in FOLDER, FOLDER/LongTailCXR or FOLDER/labels"
    )

    def read(self) -> Listing:
        from grasp_bench.data.chest_sets import read_chestxray14

        return read_chestxray14(self.data, self.config.validation_share, self.config.split_seed, self.official)

    def published_images(self) -> int:
        from grasp_bench.data.chest_sets import NIH_LISTS

        return round(NIH_LISTS["train"][1] * (1 - self.config.validation_share))

    def outline(self) -> list[ClassInfo]:
        from grasp_bench.data.chest_sets import NIH_LABELS

        share = 1 - self.config.validation_share
        return self.class_infos({name: round(count * share) for name, (count, _) in NIH_LABELS.items()})


class CxrLTSettings(SetsOfCxrSettings):
    """Settings of cxr-lt."""

    head_above: int = Field(default=26_000, ge=0)
    """Labels of more training images are head; our choice, a tenth of all"""
    tail_below: int = Field(default=2_600, ge=0)
    """Labels of fewer training images are tail; our choice, a hundredth of all"""
    edition: Literal["2023", "2024"] = "2023"
    """Edition of the challenge: 26 labels in 2023, and in 2024 the 40 of its first task"""


class CxrLT(CxrSetsTask[CxrLTSettings]):
    """CXR-LT, the field's multi-label challenge on MIMIC-CXR-JPG: 377,110 X-rays, 26 or 40 labels; credentialed data"""

    Config: ClassVar[type[TaskSettings]] = CxrLTSettings
    version = "1"
    source = (
        "CXR-LT (Holste et al. 2023 and 2025, PhysioNet, doi 10.13026/ryj9-x506; Lin et al. 2025, arXiv 2506.07984), "
        "labels for the images of MIMIC-CXR-JPG 2.0.0 (Johnson et al. 2019, PhysioNet, doi 10.13026/8360-t248): for "
        "credentialed users who signed the data use agreements, which forbid sharing images, labels and identifiers; "
        "ask what they say of models trained on them before you share weights or samples"
    )
    layout = (
        "FOLDER/files/p10/p10000032/s50414267/<dicom>.jpg (also under FOLDER/2.0.0 or FOLDER/mimic-cxr-jpg/2.0.0); "
        "FOLDER/cxr-lt-2023/{train,development,test}.csv or FOLDER/cxr-lt-2024/{train_labeled,"
        "development_labeled_task1,test_labeled_task1}.csv (also under FOLDER/cxr-lt-iccv-workshop-cvamd/2.0.0), whose "
        "column fpath names the image"
    )
    private = True

    def read(self) -> Listing:
        from grasp_bench.data.chest_sets import read_cxr_lt

        return read_cxr_lt(self.data, self.config.edition, self.official)

    def published_images(self) -> int:
        from grasp_bench.data.chest_sets import CXR_LT_FILES

        return CXR_LT_FILES[self.config.edition]["train"][1]

    def outline(self) -> list[ClassInfo]:
        from grasp_bench.data.chest_sets import CXR_LT

        return self.class_infos(CXR_LT[self.config.edition])
