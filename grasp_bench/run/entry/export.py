"""A task's images as files for other trainers: class folders, labels and prompts."""

from __future__ import annotations

import json
from pathlib import Path

from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.task import Split
from grasp_bench.errors import UserError
from grasp_bench.io import as_csv, write_bytes, writing
from grasp_bench.run.entry.names import folder_names
from grasp_bench.run.options import Options
from grasp_bench.run.plan import Plan

SPLITS = ("train", "validation", "test")
LABELS, METADATA = "labels.csv", "metadata.jsonl"
AT_ONCE = 256  # images in memory at a time
COLUMNS = ("file_name", "label", "prompt", "group")


def check_target(plan: Plan, to: Path, results: Path) -> None:
    """Raise :class:`UserError` for a folder that holds anything, and for private images below the results."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"--to {to}: is there already. Name a new or an empty folder.")
    if plan.private and to.resolve().is_relative_to(results.resolve()):
        raise UserError(f"--to {to}: lies in {results}, which is shared, and the task is private. Choose another.")


def export_split(plan: Plan, name: str, to: Path, options: Options, progress: Progress) -> int:
    """Write the images of a split into the folder ``to`` and return their number.

    Images are PNG in the size at which runs read them, numbered in the order of the split; no name of a file or of a
    patient is kept. Raises :class:`UserError` for an unknown split.
    """
    import numpy as np
    import torch
    from PIL import Image

    from grasp_bench.run.pipeline import Pipeline

    if name not in SPLITS:
        raise UserError(f"--split {name}: expected one of {', '.join(SPLITS)}.")
    context = Pipeline(plan, options, torch.device("cpu"), progress)
    split: Split = getattr(context.data, name)
    classes, folders = context.classes, folder_names(context.classes)
    rows: list[dict[str, str]] = []
    with progress.task("export", len(split)) as advance, writing(to):
        for index in np.unique(split.labels):
            (to / folders[index]).mkdir(parents=True, exist_ok=True)
        for part in np.array_split(np.arange(len(split)), -(-len(split) // AT_ONCE)):
            for number, image in zip(part, split.read(part), strict=True):
                info = classes[split.labels[number]]
                file = f"{folders[split.labels[number]]}/{number:07}.png"
                pixels = image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
                Image.fromarray(pixels).save(to / file)
                values = (file, info.name, split.prompts[number], info.group)
                rows.append(dict(zip(COLUMNS, values, strict=True)))
            advance(len(part))
    write_bytes(to / LABELS, as_csv([COLUMNS, *(tuple(row.values()) for row in rows)]).encode())
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    write_bytes(to / METADATA, ("\n".join(lines) + "\n").encode())
    return len(rows)


PROMPT_COLUMNS = ("folder", "label", "prompt", "group", "train_images", "images_to_generate")
"""Header of the file of prompts."""


def write_prompts(plan: Plan, path: Path) -> None:
    """Write a CSV file with every class's folder, prompt, group, training images, and number of images to generate."""
    each, classes = plan.spec.budget.images_per_class, plan.task.classes()
    rows = [
        (folder, info.name, info.prompt, info.group, info.train_count, each)
        for folder, info in zip(folder_names(classes), classes, strict=True)
    ]
    write_bytes(path, as_csv([PROMPT_COLUMNS, *rows]).encode())
