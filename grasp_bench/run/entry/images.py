"""Images of a folder as an entry of the open division: checked, chosen from, brought to size and written.

A file is read by the rules of :mod:`grasp_bench.data.decode`, and becomes the task's square by its
:class:`~grasp_bench.data.fit.Fit`, like an image of the task itself. Images of a class are in the order of their names.
Where more than the budget's number are given, those are scored whose :func:`rank` is lowest, which depends on task,
seed, class and pixels: neither on names nor on order nor on how many others there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from grasp_bench import seeds
from grasp_bench.contracts.entry import Found, Request
from grasp_bench.contracts.progress import Advance
from grasp_bench.contracts.task import Task, TaskSettings
from grasp_bench.data.decode import UnreadableError, resize
from grasp_bench.data.fit import Fit
from grasp_bench.data.image_task import ImageTask
from grasp_bench.data.images import WORKERS, ImageSet, image_digest, read_image_set
from grasp_bench.data.labels import LABEL_COLUMNS
from grasp_bench.data.listing import Problem, describe
from grasp_bench.data.noted import noted_of, write_noted
from grasp_bench.errors import UserError
from grasp_bench.io import as_csv, digest, file_digest, write_bytes, write_tensors
from grasp_bench.run.entry.shown import FOCUS, Pool, Shown, check_file, pools, what_is_shown
from grasp_bench.run.files import IMAGES, IMAGES_NOTED, SETS
from grasp_bench.text import to_cell

if TYPE_CHECKING:
    import torch

AT_ONCE = 64  # images that threads decode between two advances of the progress
FILES = "files.csv"
"""Which file each scored image was, in the folder of the stage ``generate``; it leaves the work folder nowhere."""


class Look(NamedTuple):
    """What one image turned out to be."""

    size: tuple[int, int]
    """Its height and width as it was given."""
    digest: str
    """sha256 (hex) of its pixels as they are scored."""


@dataclass(frozen=True)
class GivenImages:
    """Images with a class each: a folder with a sub-folder per class, a flat one with a CSV file, or an ``.npz``."""

    path: Path
    labels: Path | None = None
    enlarge: bool = False
    """Whether images smaller than those that are scored are allowed."""
    every: bool = False
    """Whether all images are scored, of however many of each class, instead of the budget's number."""
    multilabel: bool = False
    """Whether the task's images have several labels, whose columns of a labels file mean nothing else."""

    @cached_property
    def images(self) -> ImageSet:
        """The images, none of them decoded. Raises :class:`UserError` where they have no labels, too."""
        columns = (*LABEL_COLUMNS, "labels") if self.multilabel else LABEL_COLUMNS
        found = read_image_set(self.path, self.labels, columns)
        if found.labels is None:
            raise UserError(
                f"{self.path}: its images are in no sub-folders, so nothing says of which class they are. Make a "
                "sub-folder per class, or give a CSV file (id,label) with --labels."
            )
        return found

    @cached_property
    def noted(self) -> dict[str, list[str]]:
        """What is told of the images though nothing is wrong with them, such as files that were ignored."""
        return noted_of(self.images, self.images.labels or ())

    @cached_property
    def sha256(self) -> str:
        """sha256 (hex) of every image's name, labels, label in focus where it has one, and content."""
        images = self.images
        assert images.labels is not None
        focus = images.columns.get(FOCUS, []) if self.multilabel else []
        if not self.path.is_dir():
            return digest([file_digest(self.path), *images.labels, *focus])
        with ThreadPoolExecutor(WORKERS) as pool:
            contents = pool.map(lambda name: file_digest(self.path / name), images.ids)
        columns = [images.ids, images.labels, contents, *([focus] if focus else [])]
        return digest([list(row) for row in zip(*columns, strict=True)])

    def make(self, request: Request, folder: Path) -> Found:
        """Leave the images that are scored in ``folder``.

        Raises one :class:`UserError` with everything that is wrong with the images.
        """
        if request.task.multilabel:
            check_file(self.images, self.labels is not None, request)
        shown = what_is_shown(self.images, request)
        given = pools(shown, request)
        looked, problems = self._look(request)
        problems += shown.problems
        problems += [
            Problem("too few images", name, f"{len(images)}, expected at least {needed}")
            for name, images, needed in (pool._replace(needed=1) if self.every else pool for pool in given)
            if len(images) < needed
        ]
        problems += self._copies(request, looked)
        if problems:
            raise UserError(describe(self.path, problems, "Fix the images and start again; nothing was recorded."))
        by_pool = [self._chosen(pool, request, looked) for pool in given]
        chosen = [index for of_pool in by_pool for index in of_pool]
        self._write(folder, chosen, shown, request)
        names = [to_cell(self.images.ids[index]) for index in chosen]
        rows = [("generated", "file"), *((f"generated/{at:08}", name) for at, name in enumerate(names))]
        write_bytes(folder / FILES, as_csv(rows).encode())
        if self.noted:
            write_noted(folder / IMAGES_NOTED, self.noted, len(self.images), request.task.private)
        return Found(
            images=len(self.images),
            scored=len(chosen),
            selection=rule(given) if len(self.images) > len(chosen) else None,
            resized=sum(looked[index].size != request.shape[1:] for index in chosen),
            repeated=sum(len(row) - len({looked[index].digest for index in row}) for row in by_pool),
        )

    def _write(self, folder: Path, chosen: Sequence[int], shown: Shown, request: Request) -> None:
        """Write the images that are scored, and what they show."""
        import torch

        from grasp_bench.run.generation import write_images

        labels = torch.tensor([shown.classes[index] for index in chosen])
        fit = fit_of(request.task)
        with request.progress.task("read", len(chosen)) as advance:
            write_images(folder / IMAGES, self._fitted(chosen, request.shape, fit, advance), request.shape, labels)
        if shown.sets is not None:
            write_tensors(folder / SETS, {"sets": torch.from_numpy(shown.sets[chosen])})

    def _look(self, request: Request) -> tuple[dict[int, Look], list[Problem]]:
        """Decode every image: index → what it is, and a problem for each that cannot be used."""
        fit, side = fit_of(request.task), request.shape[1]

        def look(index: int) -> Look | Problem:
            try:
                image = self.images.decode(index)
            except UnreadableError as error:
                return Problem("unreadable image", self.images.ids[index], str(error))
            height, width = image.shape[1:]
            if min(height, width) < side and not self.enlarge:
                return Problem(
                    "too small",
                    self.images.ids[index],
                    f"{width} x {height} pixels, scored are {side} x {side}; --enlarge accepts it",
                )
            return Look((height, width), image_digest(resize(image, request.shape, fit)))

        looked: dict[int, Look] = {}
        problems = []
        with request.progress.task("check", len(self.images)) as advance, ThreadPoolExecutor(WORKERS) as pool:
            for start in range(0, len(self.images), AT_ONCE):
                part = range(start, min(start + AT_ONCE, len(self.images)))
                for index, found in zip(part, pool.map(look, part), strict=True):
                    if isinstance(found, Problem):
                        problems.append(found)
                    else:
                        looked[index] = found
                advance(len(part))
        return looked, problems

    def _copies(self, request: Request, looked: dict[int, Look]) -> list[Problem]:
        """A problem for each image that is one of the task's own, pixel by pixel."""
        known = request.known()
        return [
            Problem("real image", self.images.ids[index], f"has the pixels of an image of the task ({known[found]})")
            for index, (_, found) in looked.items()
            if found in known
        ]

    def _chosen(self, pool: Pool, request: Request, looked: dict[int, Look]) -> list[int]:
        """The images of a pool that are scored."""
        ids, keys = self.images.ids, (request.spec.task.name, request.spec.seed, pool.name)
        ranked = sorted(pool.images, key=lambda index: (rank(*keys, looked[index].digest), ids[index]))
        return sorted(ranked if self.every else ranked[: pool.needed], key=ids.__getitem__)

    def _fitted(
        self, chosen: Sequence[int], shape: tuple[int, int, int], fit: Fit, advance: Advance
    ) -> Iterator[torch.Tensor]:
        """Each chosen image as it is scored: uint8 ``shape``."""
        import torch

        for index in chosen:
            yield torch.from_numpy(resize(self.images.decode(index), shape, fit).copy())
            advance(1)


def rule(given: Sequence[Pool]) -> str:
    """Return how images are chosen from too many, in words."""
    ordered = "the {} of lowest sha256 of task, seed, class and pixels; then in the order of their names"
    return ("per class, " if len(given) > 1 else "of all images, ") + ordered.format(given[0].needed)


def rank(task: str, seed: int, name: str, pixels: str) -> int:
    """Return a number in [0, 2^63) by which images of a class are chosen from too many."""
    return seeds.stream("entry", task, seed, name, pixels)


def fit_of(task: Task[TaskSettings]) -> Fit:
    """Return how images become the task's squares: by its own rule, or where it has no files by the usual one."""
    return task.fit if isinstance(task, ImageTask) else Fit()
