"""Tasks whose images are files in a download that the user has: checked, listed in a manifest, read when asked for."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self, TypeVar

from pydantic import Field, model_validator

from grasp_bench.contracts.task import ClassInfo, ClassOf, Dataset, LabelSets, Split, Task, TaskSettings
from grasp_bench.data.fit import Fit
from grasp_bench.data.longtail import groups_by_count
from grasp_bench.errors import UserError

if TYPE_CHECKING:
    from grasp_bench.contracts.progress import Progress
    from grasp_bench.data.cache import PixelReader
    from grasp_bench.data.listing import Entry, Listing
    from grasp_bench.data.manifest import Manifest

NOTED = "data.json"
"""File of what is told of the data though nothing is wrong, such as ignored files, which is kept beside the record."""
CACHE = "cache-{}x{}x{}"  # folder beside the manifest of images resized to (C, H, W)


class ImageTaskSettings(TaskSettings):
    """Settings of a task of image files."""

    head_above: int = Field(default=100, ge=0)
    """Classes of more training images are head"""
    tail_below: int = Field(default=20, ge=0)
    """Classes of fewer training images are tail"""

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.tail_below > self.head_above + 1:
            raise ValueError(f"head_above={self.head_above}, tail_below={self.tail_below}: a class could be both")
        return self


class LabelSetSettings(ImageTaskSettings):
    """Settings of a task whose images may have several labels."""

    added: ClassVar[frozenset[str]] = ImageTaskSettings.added | {"class_of", "label_sets"}

    class_of: ClassOf = "rarest"
    """Which of an image's labels is its class, by which methods route, weight and resample it: the one of the fewest
    (rarest) or most (commonest) training images, or one that is drawn by the image's id"""
    label_sets: LabelSets = "focus"
    """How label sets are drawn for generated images: focus takes as many for each label, from the training images that
    have it; natural takes them as they occur"""


C_co = TypeVar("C_co", bound=ImageTaskSettings, covariant=True)


class ImageTask(Task[C_co]):
    """Base of tasks of image files: a subclass reads label files; everything else is here."""

    Config: ClassVar[type[TaskSettings]] = ImageTaskSettings
    extractors: tuple[str, ...] = ("inception",)
    reads_files = True
    published: ClassVar[bool] = True
    """Whether the splits are published: then equal images in two of them are reported, since users cannot fix them;
    otherwise they are an error."""

    fit: ClassVar[Fit] = Fit()
    """How images become square; another rule is another version of the task."""
    healthy: ClassVar[tuple[str, ...]] = ()
    """Classes in which the findings of the other classes are absent."""

    def __init__(self, config: C_co, root: Path | None = None) -> None:
        super().__init__(config, root)
        if isinstance(config, LabelSetSettings):
            self.class_of, self.label_sets = config.class_of, config.label_sets

    def listing(self) -> Listing:
        """Every image of the download, and whatever is wrong with its label files."""
        raise NotImplementedError

    def counts(self) -> dict[str, int]:
        """Class → training images, in the order of class indices."""
        raise NotImplementedError

    def prompt(self, name: str) -> str:
        """The prompt of a class, or of several whose names are listed in words."""
        raise NotImplementedError

    def class_group(self, counts: dict[str, int]) -> dict[str, str]:
        """Class → group, from training images."""
        return groups_by_count(counts, self.config.head_above, self.config.tail_below)

    def classes(self) -> list[ClassInfo]:
        return self._classes

    @cached_property
    def _classes(self) -> list[ClassInfo]:
        return self.class_infos(self.counts())

    def class_infos(self, counts: dict[str, int]) -> list[ClassInfo]:
        """The classes with so many training images, in this order."""
        groups = self.class_group(counts)
        return [
            ClassInfo(name, self.prompt(name), groups[name], count, name in self.healthy)
            for name, count in counts.items()
        ]

    def train_images(self) -> int:
        if not self.multilabel:
            return super().train_images()
        return sum(entry.split == "train" for entry in self.listing().entries)

    def check(self, progress: Progress) -> int:
        return len(self._checked(progress).entries)

    def _checked(self, progress: Progress) -> Listing:
        """The listing, if nothing is wrong with it or with the headers of its images."""
        from grasp_bench.data.check import check_images
        from grasp_bench.data.images import WORKERS
        from grasp_bench.data.listing import describe, readable
        from grasp_bench.data.noted import tell

        with readable():
            listing = self._with_classes(self.listing())
        with progress.task("check", len(listing.entries)) as advance:
            problems = [*listing.problems, *check_images(self.data, listing.entries, WORKERS, advance)]
        if problems:
            raise UserError(describe(self.data, problems))
        tell(self.data, listing.noted, progress)
        return listing

    def _with_classes(self, listing: Listing) -> Listing:
        """The listing, in which images of several labels have a class and a prompt of their set."""
        from grasp_bench.data.label_sets import in_words, with_classes

        if not self.multilabel or listing.problems:
            return listing
        counts = self.counts()

        def prompted(entry: Entry) -> Entry:
            if entry.prompt is not None or not entry.beside:
                return entry
            return replace(entry, prompt=self.prompt(in_words([name for name in counts if name in entry.labels])))

        return replace(
            listing, entries=[prompted(each) for each in with_classes(listing.entries, counts, self.class_of)]
        )

    def prepare(self, folder: Path, progress: Progress) -> None:
        from grasp_bench.data import manifest
        from grasp_bench.data.images import WORKERS
        from grasp_bench.data.noted import write_noted

        listing = self._checked(progress)
        infos = {info.name: info for info in self.classes()}
        groups, prompts = ({name: getattr(info, key) for name, info in infos.items()} for key in ("group", "prompt"))
        with progress.task("prepare", len(listing.entries)) as advance:
            about, tell = {"version": self.version}, progress.say if self.published else None
            manifest.build(self.data, listing.entries, groups, prompts, folder, WORKERS, advance, about, tell)
        if listing.noted:  # beside the record, where nothing may name the images of a private task
            write_noted(folder / NOTED, listing.noted, len(listing.entries), self.private)

    def cache(self, folder: Path, shape: tuple[int, int, int], progress: Progress) -> None:
        """Write the images, resized to ``shape`` (C, H, W), beside the manifest in ``folder``."""
        from grasp_bench.data import manifest
        from grasp_bench.data.cache import build_cache
        from grasp_bench.data.images import WORKERS

        found = manifest.read(folder)
        with progress.task("cache", len(found)) as advance:
            build_cache(
                self.data, found, shape, folder / CACHE.format(*shape), WORKERS, advance, self.fit, progress.say
            )

    def open(self, folder: Path, shape: tuple[int, int, int]) -> Dataset:
        from grasp_bench.data import manifest
        from grasp_bench.data.cache import Cache, PixelReader

        found = manifest.read(folder)
        cached = folder / CACHE.format(*shape)
        cache = Cache.open(cached) if cached.exists() else None
        reader = PixelReader(self.data, found, shape, cache, self.fit)
        splits = {name: self._split(found, reader, name) for name in found.split_names}
        return Dataset(splits["train"], splits["validation"], splits["test"], balanced_test=splits.get("balanced-test"))

    def _split(self, manifest: Manifest, reader: PixelReader, name: str) -> Split:
        """One split. Its ids number the manifest's rows, so that no name of a patient's image leaves the manifest."""
        import numpy as np

        from grasp_bench.data.label_sets import as_matrix

        rows = manifest.split(name)
        position = {info.name: index for index, info in enumerate(self.classes())}
        labels, prompts, patients = (manifest.column(each)[rows] for each in ("label", "prompt", "patient"))
        sets = None
        if self.multilabel:
            beside = manifest.beside or [[]] * len(manifest)
            named = ((label, *beside[row]) for row, label in zip(rows, labels, strict=True))
            sets = as_matrix(([position[each] for each in names] for names in named), len(position))
        return Split(
            ids=[f"{name}/{row:07}" for row in rows],
            labels=np.array([position[label] for label in labels], dtype=np.int64),
            prompts=list(prompts),
            read=lambda indices: reader.read(rows[indices]),
            patients=patients if all(patients) else None,
            metadata={column: values[rows] for column, values in manifest.metadata.items()},
            sets=sets,
        )
