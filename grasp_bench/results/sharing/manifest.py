"""The manifest of a pack: its runs, and the hash and size of every file in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from grasp_bench.bounds import Count, kept
from grasp_bench.contracts.extractor import MOST
from grasp_bench.contracts.record import Part
from grasp_bench.contracts.task import ClassInfo, LabelSets
from grasp_bench.run.context import numbered
from grasp_bench.run.stages.classify import SOURCES

MANIFEST = "manifest.json"
KINDS = ("json", "jsonl", "csv", "png", "safetensors")
"""Kinds of files in a pack; reading them cannot run code."""
MEMBER = re.compile(rf"(?:runs/[0-9a-f]{{12}}|stages)/[A-Za-z0-9][A-Za-z0-9_.-]*\.(?:{'|'.join(KINDS)})")
"""Pattern of the names of files in a pack, except its manifest."""
FEATURES = {"real": "features-real", "fake": "features", "train": "features-train"}
"""Images that the features are of → the stage that computed them, with the task's first extractor."""
TESTS = "tests"
"""Labels and patients of the test images; the file is named after the stage that prepared the data."""
SETS = "label-sets"
"""All labels of real, generated and training images, where these may have several; named after what generated."""
NAMED_AFTER = {TESTS: "prepare", SETS: "generate"}
"""Input that no stage computes → the stage that its file is named after."""


def features_of(position: int) -> dict[str, str]:
    """Return what :data:`FEATURES` is for the extractor at a position, the first at 0."""
    return {role: numbered(stage, position) for role, stage in FEATURES.items()}


class Member(Part):
    """One file of the pack."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: Count


class PackedRun(Part):
    """One run of the pack."""

    run_id: str = Field(pattern=r"^[0-9a-f]{64}$")
    private: bool
    """Whether features of its data may not be shared: then ``inputs`` is empty and few files are packed."""
    classes: list[ClassInfo] = Field(min_length=1)
    """Classes of the task, in the order of their indices."""
    extractors: list[str] = Field(min_length=1, max_length=MOST)
    """Names of the feature extractors, which are part of the titles of distances."""
    label_sets: LabelSets | None = None
    """How label sets are drawn for generated images; None where an image has one label."""
    files: dict[str, str]
    """Name of the record and of each file beside it → name in the pack."""
    inputs: dict[str, str]
    """Each of :attr:`scored_from` → name in the pack; runs share equal ones."""

    @property
    def scored_from(self) -> list[str]:
        """What the scores of the run are computed from."""
        features = [stage for position in range(len(self.extractors)) for stage in features_of(position).values()]
        return [*features, *SOURCES.values(), TESTS, *([SETS] if self.label_sets else [])]

    @field_validator("classes")
    @classmethod
    def _of_counts(cls, classes: list[ClassInfo]) -> list[ClassInfo]:
        for info in classes:
            if kept(info.train_count) < 0:
                raise ValueError(f"train_count is {info.train_count}, expected 0 or more")
        return classes

    @model_validator(mode="before")
    @classmethod
    def _of_one_extractor(cls, given: Any) -> Any:
        """What packs said when a run had one extractor."""
        if isinstance(given, dict) and isinstance(given.get("extractor"), str) and "extractors" not in given:
            given = {name: value for name, value in given.items() if name != "extractor"} | {
                "extractors": [given["extractor"]]
            }
        return given


class Manifest(Part):
    """The content of ``manifest.json``."""

    format: Literal[1] = 1
    grasp_bench: str
    """Version of the package that wrote the pack."""
    rules: str
    """Version of the fairness rules that the pack was written under."""
    runs: list[PackedRun] = Field(min_length=1)
    members: dict[str, Member]
    """Every file of the pack except the manifest."""


def folder_of(run_id: str) -> str:
    """Return the folder of a run in the pack."""
    return f"runs/{run_id[:12]}"


def input_name(name: str, stages: Mapping[str, str]) -> str:
    """Return the name in the pack of an input of a run with ``stages``; KeyError if they lack it."""
    return f"stages/{name}-{stages[NAMED_AFTER.get(name, name)][:20]}.safetensors"
