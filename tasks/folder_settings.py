"""What the TOML file of a folder task says."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError, field_validator

from grasp_bench.contracts.settings import Settings
from grasp_bench.contracts.spec import MOST
from grasp_bench.data.image_task import LabelSetSettings
from grasp_bench.documents import read_toml
from grasp_bench.errors import UserError, fault_told

NAME = r"^[a-z0-9][a-z0-9-]*$"
PATHS = ("images", "labels", "budget", "name")
"""Settings that say where things are, or that the specification holds elsewhere."""


class FolderBudget(Settings):
    """The budget of a folder task; see `grasp-bench show digits-lt` for what the fields mean."""

    steps: int = Field(default=2000, ge=1, le=MOST)
    """Optimiser steps"""
    batch_size: int = Field(default=64, ge=1, le=MOST)
    """Training images per step"""
    warmup_steps: int = Field(default=100, ge=0, le=MOST)
    """Steps over which the learning rate rises"""
    images_per_class: int = Field(default=50, ge=1, le=MOST)
    """Generated images per class"""
    num_inference_steps: int = Field(default=20, ge=1, le=MOST)
    """Sampling steps per image"""


class FolderSettings(LabelSetSettings):
    """What the TOML file of a folder task says."""

    name: str = Field(default="", pattern=NAME)
    """What the task is called in tables; the TOML file's own name if absent"""
    images: str = "images"
    """Folder of images, relative to the TOML file: one sub-folder per class, or flat with `labels`"""
    labels: str | None = None
    """CSV with the columns id and label, and what `split_column` and `patient_column` name"""
    prompt: str = "a photo of {class}"
    """Prompt of every class; {class} is its name with blanks for underscores, or several names: a, b and c"""
    groups: dict[str, list[str]] | None = None
    """Group → its classes, in place of `head_above` and `tail_below`"""
    split_column: str | None = None
    """Column that says train, validation or test; without it the split is drawn"""
    patient_column: str | None = None
    """Column of the patient: all images of a patient go into the same split"""
    metadata_columns: list[str] = Field(default=[])
    """Further columns to keep, which a method may go by, such as the view of an X-ray"""
    test_share: float = Field(default=0.3, gt=0, lt=1)
    """Share of each class, or of the patients, that is drawn for testing"""
    validation_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of each class, or of the patients, that is drawn for validation"""
    split_seed: int = Field(default=0, ge=0)
    """Seed of the drawn split"""
    backbone: str = "tiny-sd3-32"
    """The default backbone"""
    guidance: str = "cfg"
    """The default guidance"""
    budget: FolderBudget = FolderBudget()
    """The standard budget"""

    duplicates: Literal["together", "drop", "refuse"] = "together"
    """Images of equal bytes: kept in one split, dropped but for the first of each, or refused"""

    label_separator: str | None = Field(default=None, min_length=1)
    """What stands between the labels of an image in the column label, such as |, where images may have several"""
    label_columns: list[str] = Field(default=[])
    """Columns of 0 and 1, one for each label, in place of the column label, where images may have several"""
    no_label: str | None = Field(default=None, min_length=1)
    """Class of images that have no label; none: each needs one"""

    added: ClassVar[frozenset[str]] = LabelSetSettings.added | {
        *("metadata_columns", "duplicates", "label_separator", "label_columns", "no_label")
    }

    @field_validator("prompt", mode="after")
    @classmethod
    def _names_the_class(cls, prompt: str) -> str:
        if "{class}" not in prompt:
            raise ValueError("expected {class} somewhere in it, where the class's name goes")
        return prompt


def read_settings(path: Path) -> FolderSettings:
    """The settings in a file. Raises :class:`UserError` with the file and the field."""
    content = read_toml(path, "Name the TOML file of a task; `grasp-bench new task` writes a template.")
    return validated(path, {"name": path.stem} | content)


def validated(path: Path, found: dict[str, Any]) -> FolderSettings:
    """Settings of ``path`` by name, checked. Raises :class:`UserError` with the file and the field."""
    try:
        settings = FolderSettings.model_validate(found)
    except ValidationError as error:
        raise UserError(
            f"{path}: {'; '.join(map(fault_told, error.errors()))}. `grasp-bench show folder` lists what there is."
        ) from error
    several = settings.label_separator is not None or bool(settings.label_columns)
    alone = settings.model_fields_set & {"no_label", "class_of", "label_sets"}
    faults = {
        "label_separator and label_columns are two forms of the same. Choose one": (
            settings.label_separator is not None and bool(settings.label_columns)
        ),
        "several labels per image stand in a file. Name it as labels": several and settings.labels is None,
        f"{', '.join(sorted(alone))}: only where label_separator or label_columns gives images several labels": (
            not several and bool(alone)
        ),
    }
    for fault, holds in faults.items():
        if holds:
            raise UserError(f"{path}: {fault}.")
    return settings
