"""What images from elsewhere show: a class each, or label sets with the label that each image was made for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from grasp_bench.contracts.entry import Request
from grasp_bench.data.images import ImageSet
from grasp_bench.data.label_sets import as_matrix, class_of
from grasp_bench.data.listing import Problem
from grasp_bench.errors import UserError
from grasp_bench.run.entry.names import class_indices, unknown
from grasp_bench.text import counted

FOCUS = "focus"
"""The column of a labels file with the label that an image was made for."""


@dataclass(frozen=True)
class Shown:
    """What every image of an entry shows."""

    classes: list[int | None]
    """Index of each image's class, with label sets of the label that it counts for; None where that is a problem."""
    sets: np.ndarray | None
    """Which labels each image has, bool (n, classes); None where it has one."""
    problems: list[Problem]


class Pool(NamedTuple):
    """Images from which as many are scored as there are needed."""

    name: str
    """The class that they are of; "all images" where label sets are scored as they occur."""
    images: list[int]
    needed: int


def what_is_shown(images: ImageSet, request: Request) -> Shown:
    """Return what a task's images from elsewhere show, by their labels."""
    assert images.labels is not None
    if request.task.multilabel:
        return _sets(images, images.labels, request)
    classes = request.task.classes()
    known = class_indices(classes)
    found = [known.get(name) for name in images.labels]
    return Shown(found, None, _unknown([name for name in images.labels if name not in known], request, "class"))


def pools(shown: Shown, request: Request) -> list[Pool]:
    """Return the images of every class or, of label sets as they occur, all of them."""
    each, classes = request.spec.budget.images_per_class, request.task.classes()
    if shown.sets is not None and request.task.label_sets == "natural":
        return [Pool("all images", [*range(len(shown.classes))], each * len(classes))]
    return [
        Pool(info.name, [image for image, found in enumerate(shown.classes) if found == index], each)
        for index, info in enumerate(classes)
    ]


def check_file(images: ImageSet, named: bool, request: Request) -> None:
    """Raise :class:`UserError` where no labels file names label sets, or none says what each image was made for.

    ``named`` is whether there is a labels file.
    """
    task, separator = request.spec.task.name, request.task.label_separator
    example = f"labels such as a{separator}b"
    made_for = request.task.label_sets == "focus"
    if not named:
        columns = f"file,labels,{FOCUS}" if made_for else "file,labels"
        raise UserError(
            f"{images.source}: images of task {task} have several labels, which neither sub-folders nor an .npz can "
            f"name. Give them in a CSV file ({columns}; {example}) with --labels."
        )
    if made_for and FOCUS not in images.columns and any(separator in cell for cell in images.labels or ()):
        raise UserError(
            f"{images.source}: the labels file has no column {FOCUS!r}. Under label_sets=focus images of task {task} "
            f"count for the label that they were made for, which the column must say of those that have several. "
            "`grasp-bench data export --prompts-out` writes such a file; --task-set label_sets=natural needs none."
        )


def _sets(images: ImageSet, cells: Sequence[str], request: Request) -> Shown:
    task, classes = request.task, request.task.classes()
    known, names = class_indices(classes), [info.name for info in classes]
    counts = {info.name: info.train_count for info in classes}
    focus = images.columns.get(FOCUS, [""] * len(cells)) if task.label_sets == "focus" else None
    found: list[int | None] = []
    sets: list[list[int]] = []
    problems, strange = [], list[str]()
    for row, (image, cell) in enumerate(zip(images.ids, cells, strict=True)):
        given = [part.strip() for part in cell.split(task.label_separator)]
        own = [known[name] for name in given if name in known]
        strange += [name for name in given if name and name not in known]
        if not all(given) or len(set(given)) < len(given) or len(set(own)) < len(own):
            problems.append(Problem("label set", image, f"{cell!r} has an empty label or one twice"))
        asked = None
        if own and focus is None:
            asked = names.index(class_of([names[index] for index in own], counts, task.class_of, image))
        elif own and focus is not None:
            asked = known.get(focus[row]) if focus[row] else own[0] if len(own) == 1 else None
            if asked not in own:
                problems.append(Problem("label in focus", image, f"{focus[row]!r}, expected one of {cell!r}"))
                asked = None
        found.append(asked)
        sets.append(own)
    return Shown(found, as_matrix(sets, len(classes)), _unknown(strange, request, "label") + problems)


def _unknown(names: Sequence[str], request: Request, what: str) -> list[Problem]:
    classes = request.task.classes()
    return [
        Problem(f"unknown {what}", name, f"{counted(count, 'image')}; {unknown(name, classes)}")
        for name, count in Counter(names).items()
    ]
