"""Anybody's own images, described by a TOML file: no Python needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar

from pydantic import JsonValue

from grasp_bench.contracts.settings import parse_settings
from grasp_bench.contracts.spec import STANDARD, Budget, by_name, smoke
from grasp_bench.contracts.task import ClassifierRecipe, TaskSettings
from grasp_bench.data.image_task import ImageTask
from grasp_bench.data.listing import place
from grasp_bench.errors import UserError, other_form
from grasp_bench.home import with_home
from grasp_bench.text import counted

from .folder_settings import PATHS, FolderSettings, read_settings, validated

if TYPE_CHECKING:
    from grasp_bench.data.images import ImageSet
    from grasp_bench.data.labels import Row
    from grasp_bench.data.listing import Entry, Listing

SPLITS = ("train", "validation", "test")


class FolderTask(ImageTask[FolderSettings]):
    """Your own images, described by a TOML file: `grasp-bench new task`, then `--task ./mytask.toml`"""

    Config: ClassVar[type[TaskSettings]] = FolderSettings
    version = "2"
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
        self.multilabel = bool(config.label_separator or config.label_columns)
        self.label_separator = config.label_separator or self.label_separator
        standard = Budget(name=STANDARD, clip_norm=1.0, prompt_dropout=0.1, **config.budget.model_dump())
        self.budgets = by_name(standard, smoke())

    @classmethod
    def from_file(cls, path: Path, assignments: Iterable[str]) -> tuple[str, FolderTask]:
        """The task that a TOML file describes, with ``NAME=VALUE`` settings in place of the file's; and its name.

        Raises :class:`UserError` that names the file and the field.
        """
        from grasp_bench import plugins

        config = read_settings(path)
        if assigned := list(assignments):
            found = parse_settings(FolderSettings, assigned, f"task {path}", {})
            config = validated(path, config.model_dump() | found.model_dump(include=found.model_fields_set))
        if config.name in plugins.entries("tasks"):
            raise UserError(f"{path}, name: {config.name!r} is a built-in or installed task; choose another name.")
        root = path.parent / with_home(Path(config.images))
        labels = path.parent / with_home(Path(config.labels)) if config.labels else None
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
        from grasp_bench.io import digest

        rows: list[JsonValue] = [
            [each.path, *each.labels, each.split, each.patient, self._hashes[each.path], *each.metadata.values()]
            for each in self._listing.entries
        ]
        return digest(rows)

    @cached_property
    def _hashes(self) -> dict[str, str]:
        """Path of every image → sha256 of its bytes."""
        from grasp_bench.data.listing import readable
        from grasp_bench.io import file_digest

        with readable():
            return {name: file_digest(self.data / name) for name in self._found.ids}

    @cached_property
    def _found(self) -> ImageSet:
        from grasp_bench.data.images import read_image_set
        from grasp_bench.data.labels import LABEL_COLUMNS

        return read_image_set(self.data, self.labels, () if self.config.label_columns else LABEL_COLUMNS)

    @cached_property
    def _sets(self) -> list[tuple[str, ...]]:
        """The labels of every image, of which the rarest comes first."""
        from .folder_labels import label_sets

        sets = label_sets(self._found, self.config, self._where)
        counts = Counter(label for labels in sets for label in labels)
        return [tuple(sorted(labels, key=lambda name: (counts[name], name))) for labels in sets]

    def listing(self) -> Listing:
        return self._listing

    @cached_property
    def _listing(self) -> Listing:
        from grasp_bench.data.listing import Entry
        from grasp_bench.data.noted import noted_of

        found = self._found
        if found.labels is None:
            raise UserError(
                f'{self.data}: has no class sub-folders. Name a labels file in the TOML: labels = "labels.csv".'
            )
        splits = self._splits(found)
        people: Sequence[str | None] = self._column(found, self.config.patient_column) or [None] * len(found)
        kept = {name: self._column(found, name) or [] for name in self.config.metadata_columns}
        entries = []
        for row, (name, labels, split, patient) in enumerate(zip(found.ids, self._sets, splits, people, strict=True)):
            metadata, (label, *beside) = {column: values[row] for column, values in kept.items()}, labels
            where = self._where(name)
            entries.append(Entry(name, name, label, split, where, patient, None, metadata, tuple(beside)))
        noted = noted_of(found, (label for labels in self._sets for label in labels))
        return self._without_repeats(entries, noted)

    def _without_repeats(self, entries: list[Entry], noted: dict[str, list[str]]) -> Listing:
        """The listing of images, of which those of equal bytes are treated as the task says."""
        from grasp_bench.data import equal
        from grasp_bench.data.listing import Listing, consistency

        again, chosen = equal.repeated(entries, self._hashes), self.config.duplicates
        problems = equal.twice(entries, again) if chosen == "refuse" else []
        if again and chosen != "refuse":
            how = "dropped" if chosen == "drop" else "kept in one split"
            noted[f"images of equal bytes, {how}"] = [f"{name} as {first.path}" for name, first in again.items()]
        if chosen == "drop":
            entries = [each for each in entries if each.path not in again]
        hashes = [self._hashes[each.path] for each in entries]
        return Listing(entries, [*consistency(entries), *problems, *equal.shared(entries, hashes)], noted)

    def _where(self, image: str) -> str:
        """The line of the labels file that names an image, or where there is none the image itself."""
        if self.labels is None:
            return str(self.data / image)
        row = self._rows.get(image) or self._rows[PurePosixPath(image).name]
        return place(self.labels, row.line)

    @cached_property
    def _rows(self) -> dict[str, Row]:
        from grasp_bench.data.labels import ID_COLUMNS, LABEL_COLUMNS, read_labels

        assert self.labels is not None
        return read_labels(self.labels, ID_COLUMNS, () if self.config.label_columns else LABEL_COLUMNS)

    def _column(self, images: ImageSet, name: str | None) -> list[str] | None:
        if name is None:
            return None
        if name not in images.columns:
            there = ", ".join(images.columns) or "none but id and label"
            raise UserError(f"{self.labels or self.data}: has no column {name!r}. Its columns: {there}.")
        values = images.columns[name]
        if empty := [image for image, value in zip(images.ids, values, strict=True) if not value]:
            raise UserError(
                f"{self._where(empty[0])}: {name} is empty, as it is for {counted(len(empty), 'image')}. Fill it in."
            )
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
        """A split by patients, or without them within each class, of which one image at least is for training.

        The class of an image of several labels is the rarest of them here. Images of equal bytes, whatever their
        classes, are in one split, and so are patients who share one.
        """
        from grasp_bench.data.equal import joined
        from grasp_bench.seeds import rng

        test, validation = self.config.test_share, self.config.validation_share
        patients = self._column(images, self.config.patient_column)
        if patients is not None:
            people = joined(patients, [self._hashes[name] for name in images.ids])
            draws = {each: rng("folder-split", self.config.split_seed, each).random() for each in set(people)}
            pairs = zip(self._sets, people, strict=True)
            self._keep_one_to_train([(label, one) for labels, one in pairs for label in labels], draws)
            return [_split_at(draws[each], test, validation) for each in people]
        splits: dict[str, str] = {}
        rarest = [labels[0] for labels in self._sets]
        for label in sorted(set(rarest)):
            mine = (self._hashes[name] for name, each in zip(images.ids, rarest, strict=True) if each == label)
            drawn = list(dict.fromkeys(each for each in mine if each not in splits))
            order = rng("folder-split", self.config.split_seed, label).permutation(len(drawn))
            for number, index in enumerate(order):
                position = 1.0 if number == 0 else 1 - (number + 1) / len(drawn)
                splits[drawn[index]] = _split_at(position, test, validation)
        return [splits[self._hashes[name]] for name in images.ids]

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
        from grasp_bench.data.label_sets import label_counts

        names = sorted({label for each in self._listing.entries for label in each.labels})
        found = label_counts(self._listing.entries)
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
                    hint = other_form([name], counts)
                    raise UserError(
                        f"groups.{group}: there is no class {name!r}.{hint} There are: {', '.join(counts)}."
                    )
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
