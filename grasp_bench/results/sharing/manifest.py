"""What a pack says of itself: its runs, and the hash and size of every file in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from grasp_bench.contracts.record import Part
from grasp_bench.contracts.task import ClassInfo

MANIFEST = "manifest.json"
KINDS = ("json", "jsonl", "csv", "png", "safetensors")
"""Of files in a pack; none of them can run anything when it is read."""
MEMBER = re.compile(rf"(?:runs/[0-9a-f]{{12}}|stages)/[A-Za-z0-9][A-Za-z0-9_.-]*\.(?:{'|'.join(KINDS)})")
"""Names of the files in a pack beside its manifest."""
FEATURES = {"real": "features-real", "fake": "features", "train": "features-train"}
"""What images the features are of → the stage that they are from."""
PROBABILITIES = {"generated": "classify-generated", "real": "classify-real", "topped-up": "classify-topped-up"}
"""What classifiers were trained on → the stage that keeps what they say of test images."""
TESTS = "tests"
"""The labels of test images, and which are of one patient; named after the stage that prepared the data."""
INPUTS = (*FEATURES.values(), *PROBABILITIES.values(), TESTS)


class Member(Part):
    """One file of the pack."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class PackedRun(Part):
    """One run of the pack."""

    run_id: str = Field(pattern=r"^[0-9a-f]{64}$")
    private: bool
    """Of data whose features may not leave: then ``inputs`` is empty and few files are there."""
    classes: list[ClassInfo] = Field(min_length=1)
    """Of the task, in the order of their indices."""
    extractor: str
    """Name of the one behind the features, which distances are called by."""
    files: dict[str, str]
    """What lies beside the record, and the record itself → name in the pack."""
    inputs: dict[str, str]
    """What scores are computed from, each of :data:`INPUTS` → name in the pack; runs share what is the same."""


class Manifest(Part):
    """The content of ``manifest.json``."""

    format: Literal[1] = 1
    grasp_bench: str
    """Version of the package that packed it."""
    rules: str
    """Version of the fairness rules then."""
    runs: list[PackedRun] = Field(min_length=1)
    members: dict[str, Member]
    """Every file of the pack but this one."""


def folder_of(run_id: str) -> str:
    """Folder of a run in the pack."""
    return f"runs/{run_id[:12]}"


def input_name(name: str, stages: Mapping[str, str]) -> str:
    """Name in the pack of one of :data:`INPUTS`, of a run with these ``stages``. Raises KeyError where they lack it."""
    return f"stages/{name}-{stages['prepare' if name == TESTS else name][:20]}.safetensors"
