"""A task's images as files for other trainers: class folders, labels and prompts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from grasp_bench.contracts.progress import Advance, Progress
from grasp_bench.contracts.task import ClassInfo, Split
from grasp_bench.errors import UserError
from grasp_bench.io import as_csv, folder_written_whole, write_bytes
from grasp_bench.places import resolved
from grasp_bench.run.entry.names import folder_names
from grasp_bench.run.entry.shown import FOCUS
from grasp_bench.run.options import Options
from grasp_bench.run.plan import Plan
from grasp_bench.text import to_cell

SPLITS = ("train", "validation", "test")
LABELS, METADATA = "labels.csv", "metadata.jsonl"
AT_ONCE = 256  # images in memory at a time
COLUMNS = ("file_name", "label", "prompt", "group")
"""Header of the labels file; of images with several labels, ``labels`` stands for ``label``."""


def check_target(plan: Plan, to: Path, results: Path) -> None:
    """Raise :class:`UserError` for a folder that holds anything, and for private images below the results."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"--to {to}: is there already. Name a new or an empty folder.")
    if plan.private and resolved(to).is_relative_to(resolved(results)):
        raise UserError(f"--to {to}: lies in {results}, which is shared, and the task is private. Choose another.")


def export_split(plan: Plan, name: str, to: Path, options: Options, progress: Progress) -> int:
    """Write the images of a split into the folder ``to``, which is there only when it is whole; return their number.

    Images are PNG in the size at which runs read them, numbered in the order of the split; no name of a file or of a
    patient is kept. An image of several labels lies in the folder of its class. Raises :class:`UserError` for an
    unknown split, and where ``to`` cannot be written.
    """
    import torch

    from grasp_bench.run.pipeline import Pipeline

    if name not in SPLITS:
        raise UserError(f"--split {name}: expected one of {', '.join(SPLITS)}.")
    context = Pipeline(plan, options, torch.device("cpu"), progress)
    split: Split = getattr(context.data, name)
    columns = tuple("labels" if each == "label" and plan.task.multilabel else each for each in COLUMNS)
    with folder_written_whole(to) as folder, progress.task("export", len(split)) as advance:
        rows = _write_images(folder, plan, split, context.classes, advance)
        write_bytes(folder / LABELS, as_csv([columns, *(map(to_cell, row) for row in rows)]).encode())
        lines = (json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) for row in rows)
        write_bytes(folder / METADATA, ("\n".join(lines) + "\n").encode())
    return len(rows)


def _write_images(
    folder: Path, plan: Plan, split: Split, classes: Sequence[ClassInfo], advance: Advance
) -> list[tuple[str, ...]]:
    """Write every image into its class's folder and return the rows of :data:`COLUMNS` that describe them."""
    import numpy as np
    from PIL import Image

    folders = folder_names(classes)
    rows: list[tuple[str, ...]] = []
    for index in np.unique(split.labels):
        (folder / folders[index]).mkdir()
    for start in range(0, len(split), AT_ONCE):
        part = np.arange(start, min(start + AT_ONCE, len(split)))
        for number, image in zip(part, split.read(part), strict=True):
            label = split.labels[number]
            file = f"{folders[label]}/{number:07}.png"
            pixels = image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
            Image.fromarray(pixels).save(folder / file)
            rows.append((file, _labels(plan, split, int(number)), split.prompts[number], classes[label].group))
        advance(len(part))
    return rows


def _labels(plan: Plan, split: Split, row: int) -> str:
    """Return the label of an image, or all of its labels with the task's separator between them."""
    names = [info.name for info in plan.task.classes()]
    if split.sets is None:
        return names[int(split.labels[row])]
    return plan.task.label_separator.join(name for name, has in zip(names, split.sets[row], strict=True) if has)


PROMPT_COLUMNS = ("folder", "label", "prompt", "group", "train_images", "images_to_generate")
"""Header of the file of prompts."""
SET_COLUMNS = ("file", "labels", FOCUS, "prompt")
"""Header of the file of prompts where images have several labels: a line for every image to generate."""


def write_prompts(plan: Plan, path: Path, options: Options, progress: Progress) -> int:
    """Write a CSV file with every class's folder, prompt, group, training images, and number of images to generate.

    Where images have several labels, it has a line for each image that a run generates: its label set, the label that
    it is made for where there is one, and its prompt. Images of these names are then evaluated with the file as their
    labels. Returns the number of lines.
    """
    rows = _sets_to_generate(plan, options, progress) if plan.task.multilabel else _classes(plan)
    write_bytes(path, as_csv(rows).encode())
    return len(rows) - 1


def _classes(plan: Plan) -> list[tuple[object, ...]]:
    """Return :data:`PROMPT_COLUMNS` and a line for every class."""
    each, classes = plan.spec.budget.images_per_class, plan.task.classes()
    rows = [
        (folder, *map(to_cell, (info.name, info.prompt, info.group)), info.train_count, each)
        for folder, info in zip(folder_names(classes), classes, strict=True)
    ]
    return [PROMPT_COLUMNS, *rows]


def _sets_to_generate(plan: Plan, options: Options, progress: Progress) -> list[tuple[object, ...]]:
    """Return :data:`SET_COLUMNS` and a line for every image, in the order in which a run generates the images."""
    import torch

    from grasp_bench.run.pipeline import Pipeline

    context = Pipeline(plan, options, torch.device("cpu"), progress)
    train, drawn, each = context.data.train, context.drawn, plan.spec.budget.images_per_class
    assert drawn is not None
    focus = [info.name for info in context.classes] if plan.task.label_sets == "focus" else [""] * len(context.classes)
    rows = [
        (f"{number:07}.png", *map(to_cell, (_labels(plan, train, row), focus[number // each], train.prompts[row])))
        for number, row in enumerate(drawn)
    ]
    return [SET_COLUMNS, *rows]
