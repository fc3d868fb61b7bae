"""Anybody's own images, described by a TOML file: no Python needed."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, JsonValue, ValidationError, field_validator

from grasp_bench.contracts.settings import Settings, parse_settings
from grasp_bench.contracts.spec import STANDARD, Budget, by_name, smoke
from grasp_bench.contracts.task import ClassifierRecipe, TaskSettings
from grasp_bench.data.image_task import ImageTask, ImageTaskSettings
from grasp_bench.data.listing import place
from grasp_bench.errors import UserError

if TYPE_CHECKING:
    from grasp_bench.data.images import ImageSet
    from grasp_bench.data.labels import Row
    from grasp_bench.data.listing import Listing

NAME = r"^[a-z0-9][a-z0-9-]*$"
SPLITS = ("train", "validation", "test")
PATHS = ("images", "labels", "budget", "name")
"""Settings that say where things are, or that the specification holds elsewhere."""


class FolderBudget(Settings):
    """The budget of a folder task; see `grasp-bench show digits-lt` for what the fields mean."""

    steps: int = Field(default=2000, ge=1)
    """Optimiser steps"""
    batch_size: int = Field(default=64, ge=1)
    """Training images per step"""
    warmup_steps: int = Field(default=100, ge=0)
    """Steps over which the learning rate rises"""
    images_per_class: int = Field(default=50, ge=1)
    """Generated images per class"""
    num_inference_steps: int = Field(default=20, ge=1)
    """Sampling steps per image"""


class FolderSettings(ImageTaskSettings):
    """What the TOML file of a folder task says."""

    name: str = Field(default="", pattern=NAME)
    """What the task is called in tables; the TOML file's own name if absent"""
    images: str = "images"
    """Folder of images, relative to the TOML file: one sub-folder per class, or flat with `labels`"""
    labels: str | None = None
    """CSV with the columns id and label, and what `split_column` and `patient_column` name"""
    prompt: str = "a photo of {class}"
    """Prompt of every class; {class} is its name with blanks for underscores"""
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

    added: ClassVar[frozenset[str]] = ImageTaskSettings.added | {"metadata_columns"}

    @field_validator("prompt", mode="after")
    @classmethod
    def _names_the_class(cls, prompt: str) -> str:
        if "{class}" not in prompt:
            raise ValueError("expected {class} somewhere in it, where the class's name goes")
        return prompt


class FolderTask(ImageTask[FolderSettings]):
    """Your own images, described by a TOML file: `grasp-bench new task`, then `--task ./mytask.toml`"""

    Config: ClassVar[type[TaskSettings]] = FolderSettings
    version = "1"
    published = False
    described_by_file = True
    source = "yours; the file says what it is called"
    backbone = "tiny-sd3-32"
    guidance = "cfg"
    classifier = ClassifierRecipe(
        network="small-cnn",
        epochs=60,
        batch_size=64,
        learning_rate=2e-3,
        augmentation=("crop",),
        class_weights="balanced",
        patience=15,
        seeds=3,
    )
    budgets = by_name()

    def __init__(self, config: FolderSettings, root: Path | None = None, labels: Path | None = None) -> None:
        super().__init__(config, root)
        self.backbone, self.guidance, self.labels = config.backbone, config.guidance, labels
        self.private = config.patient_column is not None
        standard = Budget(name=STANDARD, clip_norm=1.0, prompt_dropout=0.1, **config.budget.model_dump())
        self.budgets = by_name(standard, smoke())

    @classmethod
    def from_file(cls, path: Path, assignments: Iterable[str]) -> tuple[str, FolderTask]:
        """The task that a TOML file describes, with ``NAME=VALUE`` settings in place of the file's; and its name.

        Raises :class:`UserError` that names the file and the field.
        """
        from grasp_bench import plugins

        config = _read(path)
        if assigned := list(assignments):
            found = parse_settings(FolderSettings, assigned, f"task {path}", {})
            config = _validated(path, config.model_dump() | found.model_dump(include=found.model_fields_set))
        if config.name in plugins.entries("tasks"):
            raise UserError(f"{path}, name: {config.name!r} is a built-in or installed task; choose another name.")
        root, labels = path.parent / config.images, path.parent / config.labels if config.labels else None
        if not root.is_dir():
            raise UserError(f"{path}, images: {root} is not a folder.")
        return config.name, cls(config, root.resolve(), labels)

    def identity(self) -> dict[str, JsonValue]:
        settings = self.config.model_dump(mode="json", exclude=set(PATHS))
        return settings | {"data": self._digest}

    def changed(self) -> dict[str, JsonValue]:
        from grasp_bench.io import digest

        return {"id": digest(self.identity() | {"budget": self.config.budget.model_dump()})[:8]}

    @cached_property
    def _digest(self) -> str:
        """sha256 of every image's bytes, path, class, split, patient and metadata: an edited file is another task."""
        from grasp_bench.data.listing import readable
        from grasp_bench.io import digest, file_digest

        with readable():
            rows: list[JsonValue] = [
                [
                    *(each.path, each.label, each.split, each.patient, file_digest(self.data / each.path)),
                    *each.metadata.values(),
                ]
                for each in self._listing.entries
            ]
        return digest(rows)

    def listing(self) -> Listing:
        return self._listing

    @cached_property
    def _listing(self) -> Listing:
        from grasp_bench.data.images import read_image_set
        from grasp_bench.data.listing import Entry, Listing, consistency

        found = read_image_set(self.data, self.labels)
        if found.labels is None:
            raise UserError(
                f'{self.data}: has no class sub-folders. Name a labels file in the TOML: labels = "labels.csv".'
            )
        splits = self._splits(found)
        people: Sequence[str | None] = self._column(found, self.config.patient_column) or [None] * len(found)
        kept = {name: self._column(found, name) or [] for name in self.config.metadata_columns}
        entries = []
        for row, (name, label, split, patient) in enumerate(zip(found.ids, found.labels, splits, people, strict=True)):
            metadata = {column: values[row] for column, values in kept.items()}
            entries.append(Entry(name, name, label, split, self._where(name), patient, metadata=metadata))
        return Listing(entries, consistency(entries))

    def _where(self, image: str) -> str:
        """The line of the labels file that names an image, or where there is none the image itself."""
        if self.labels is None:
            return str(self.data / image)
        row = self._rows.get(image) or self._rows[PurePosixPath(image).name]
        return place(self.labels, row.line)

    @cached_property
    def _rows(self) -> dict[str, Row]:
        from grasp_bench.data.labels import read_labels

        assert self.labels is not None
        return read_labels(self.labels)

    def _column(self, images: ImageSet, name: str | None) -> list[str] | None:
        if name is None:
            return None
        if name not in images.columns:
            there = ", ".join(images.columns) or "none but id and label"
            raise UserError(f"{self.labels or self.data}: has no column {name!r}. Its columns: {there}.")
        values = images.columns[name]
        if empty := [image for image, value in zip(images.ids, values, strict=True) if not value]:
            raise UserError(f"{self._where(empty[0])}: {name} is empty, as it is for {len(empty)} images. Fill it in.")
        return values

    def _splits(self, images: ImageSet) -> list[str]:
        given = self._column(images, self.config.split_column)
        if given is None:
            return self._drawn(images)
        for image, split in zip(images.ids, given, strict=True):
            if split not in SPLITS:
                expected, column = ", ".join(SPLITS), self.config.split_column
                raise UserError(f"{self._where(image)}: {column} is {split!r}, expected one of {expected}.")
        return given

    def _drawn(self, images: ImageSet) -> list[str]:
        """A split by patients, or without them within each class, of which one image at least is for training."""
        from grasp_bench.seeds import rng

        test, validation = self.config.test_share, self.config.validation_share
        patients = self._column(images, self.config.patient_column)
        if patients is not None:
            draws = {each: rng("folder-split", self.config.split_seed, each).random() for each in set(patients)}
            self._keep_one_to_train(list(zip(images.labels or [], patients, strict=True)), draws)
            return [_split_at(draws[each], test, validation) for each in patients]
        assert images.labels is not None
        splits = [""] * len(images)
        for label in sorted(set(images.labels)):
            rows = [row for row, each in enumerate(images.labels) if each == label]
            order = rng("folder-split", self.config.split_seed, label).permutation(len(rows))
            for number, index in enumerate(order):
                position = 1.0 if number == 0 else 1 - (number + 1) / len(rows)
                splits[rows[index]] = _split_at(position, test, validation)
        return splits

    def _keep_one_to_train(self, images: list[tuple[str, str]], draws: dict[str, float]) -> None:
        """Let one patient of every class be trained on, the one drawn last; ``images`` are (class, patient)."""
        patients: dict[str, set[str]] = {}
        for label, patient in images:
            patients.setdefault(label, set()).add(patient)
        for label in sorted(patients, key=lambda each: (len(patients[each]), each)):
            last = max(patients[label], key=lambda each: (draws[each], each))
            if _split_at(draws[last], self.config.test_share, self.config.validation_share) != "train":
                draws[last] = 1.0

    def counts(self) -> dict[str, int]:
        names = sorted({each.label for each in self._listing.entries})
        found = Counter(each.label for each in self._listing.entries if each.split == "train")
        if absent := [name for name in names if not found[name]]:
            raise UserError(
                f"{self.labels or self.data}: no training image of class {absent[0]!r}, as of {len(absent)} classes. "
                "Give it some, or take the class out."
            )
        for split in SPLITS[1:]:
            if not any(each.split == split for each in self._listing.entries):
                raise UserError(
                    f"{self.labels or self.data}: no image is for {split}. Raise {split}_share, or name some in the "
                    "column of splits."
                )
        return dict(sorted(((name, found[name]) for name in names), key=lambda item: (-item[1], item[0])))

    def class_group(self, counts: dict[str, int]) -> dict[str, str]:
        if self.config.groups is None:
            return super().class_group(counts)
        found: dict[str, str] = {}
        for group, names in self.config.groups.items():
            if group == "all":
                raise UserError('groups.all: no group may be called "all": it stands for every class.')
            for name in names:
                if name not in counts:
                    raise UserError(f"groups.{group}: there is no class {name!r}. There are: {', '.join(counts)}.")
                if name in found:
                    raise UserError(f"groups.{group}: class {name!r} is in {found[name]!r} already.")
                found[name] = group
        if missing := [name for name in counts if name not in found]:
            raise UserError(f"groups: no group for {', '.join(missing)}.")
        return found

    def prompt(self, name: str) -> str:
        return self.config.prompt.replace("{class}", name.replace("_", " "))


def _split_at(position: float, test: float, validation: float) -> str:
    return "test" if position < test else "validation" if position < test + validation else "train"


def _read(path: Path) -> FolderSettings:
    try:
        found: dict[str, Any] = {"name": path.stem} | tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file. `grasp-bench new task` writes a template.") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: cannot be read as TOML ({error}).") from error
    return _validated(path, found)


def _validated(path: Path, found: dict[str, Any]) -> FolderSettings:
    try:
        return FolderSettings.model_validate(found)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        raise UserError(f"{path}: {'; '.join(lines)}. `grasp-bench show folder` lists what there is.") from error
