"""Long-tailed chest X-rays of MIMIC-CXR-JPG: for those who hold the credentialed data."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from grasp_bench.contracts.task import TaskSettings
from grasp_bench.data.cxr_lt import MIMIC_TRAIN_COUNTS

from .cxr import RAD_DINO, CxrTask, GeneratedCxrSettings

if TYPE_CHECKING:
    from grasp_bench.data.listing import Entry, Listing

ENDING = (
    "addendum|clinical history|clinical information|comparison|comparisons|conclusion|examination|exam|final report"
    "|history|indication|notification|reason for exam|reason for examination|recommendation|recommendations"
    "|technique|wet read"
)
HEADER = re.compile(
    # known headings in any case, alone on their line or with a colon; any other that is in capitals, with a colon
    rf"^[ \t]*(?:(?P<known>(?i:(?:impressions?|findings?)(?:[ \t]*(?:and|/|&)[ \t]*(?:impressions?|findings?))?"
    rf"|{ENDING}))[ \t]*(?::|$)|[A-Z][A-Z0-9 ()/&,.-]+:)",
    re.MULTILINE,
)


class MimicSettings(GeneratedCxrSettings):
    """Settings of mimic-lt."""

    prompts: Literal["class", "report"] = "class"
    """Train on the class's prompt, or on the impression of the report where there is one"""
    report_words: int = Field(default=12, ge=1)
    """Words of an impression that are kept: 12 is what the smallest backbone reads"""


class MimicLT(CxrTask[MimicSettings]):
    """MIMIC-CXR-LT, single label: 87,493 training X-rays of 19 classes, from 53,260 images to 12; credentialed data"""

    Config: ClassVar[type[TaskSettings]] = MimicSettings
    version = "2"
    source = (
        "MIMIC-CXR-JPG 2.0.0 (Johnson et al. 2019, PhysioNet, doi 10.13026/8360-t248): for credentialed users who "
        "signed its data use agreement, which forbids sharing images, reports and identifiers; ask what it says of "
        "models trained on them before you share weights or samples. Splits: MIMIC-CXR-LT (Holste et al. 2022, arXiv "
        "2208.13365), label files from its authors. With the reports of MIMIC-CXR 2.0.0 beside the images, prompts "
        "may be the reports' impressions"
    )
    layout = (
        "FOLDER/files/p10/p10000032/s50414267/<dicom>.jpg (also under FOLDER/2.0.0 or FOLDER/mimic-cxr-jpg/2.0.0), "
        "reports as files/p10/p10000032/s50414267.txt; mimic-cxr-lt_single-label_{train,balanced-val,test,"
        "balanced-test}.csv in FOLDER, FOLDER/LongTailCXR or FOLDER/labels; for view=true, "
        "mimic-cxr-2.0.0-metadata.csv there or beside files/"
    )
    private = True
    extractors = ("inception", RAD_DINO)

    def most_prompts(self) -> int:
        return super().most_prompts() + (self.train_images() if self.config.prompts == "report" else 0)

    def listing(self) -> Listing:
        from grasp_bench.data.cxr_lt import MIMIC_COUNTS, read_mimic, with_mimic_views
        from grasp_bench.data.listing import Problem

        listing = read_mimic(self.data, MIMIC_COUNTS if self.official else None)
        if self.config.view:
            listing = with_mimic_views(listing, self.data)
        if self.config.prompts == "class":
            return listing
        entries = [replace(each, prompt=self._impression(each)) for each in listing.entries]
        if entries and not any(entry.prompt for entry in entries):
            found = "no image has a report that says anything beside it, as prompts=report asks for"
            return replace(listing, problems=[*listing.problems, Problem("no reports", str(self.data), found)])
        return replace(listing, entries=entries)

    def _impression(self, entry: Entry) -> str | None:
        """The impression of the study's report, if there is one that says anything."""
        from grasp_bench.data.listing import read_text

        path = (self.data / entry.path).parent.with_suffix(".txt")
        found = impression(read_text(path)) if path.exists() else None
        return found and " ".join(found.split()[: self.config.report_words])

    def counts(self) -> dict[str, int]:
        return MIMIC_TRAIN_COUNTS


def impression(text: str) -> str | None:
    """The impression of a report, or else its findings; None where both are missing or say nothing.

    Of several sections of a kind the last with words counts: addenda come after what they correct. A section that is
    headed "findings and impression" is an impression. The marks of removed names (``___``) go, and runs of white
    space become one space.
    """
    text = "\n".join(text.splitlines())
    headers = list(HEADER.finditer(text))
    ends = [*(header.start() for header in headers), len(text)][1:]
    found: dict[str, str] = {}
    for header, end in zip(headers, ends, strict=True):
        name = (header["known"] or "").lower()
        kind = next((kind for kind in ("impression", "finding") if kind in name), None)
        words = " ".join(re.sub("_{2,}", " ", text[header.end() : end]).split())
        if kind and re.search(r"\w", words):
            found[kind] = words
    return found.get("impression") or found.get("finding")
