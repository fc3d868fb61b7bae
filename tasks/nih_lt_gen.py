"""Long-tailed chest X-rays of NIH ChestX-ray14: data that anybody may download."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from grasp_bench.contracts.task import TaskSettings
from grasp_bench.data.cxr_lt import NIH_TRAIN_COUNTS

from .cxr import C_co, CxrTask, GeneratedCxrSettings

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
    version = "1"
    layout = f"{NihTask.layout}; for view=true, Data_Entry_2017_v2020.csv there"

    def listing(self) -> Listing:
        from grasp_bench.data.cxr_lt import with_nih_views

        listing = super().listing()
        return with_nih_views(listing, self.data) if self.config.view else listing
