"""The labels of a folder task's images: one of each, or several in a column or as columns of 0 and 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from grasp_bench.errors import UserError

from .folder_settings import FolderSettings

if TYPE_CHECKING:
    from grasp_bench.data.images import ImageSet


def label_sets(found: ImageSet, config: FolderSettings, where: Callable[[str], str]) -> list[tuple[str, ...]]:
    """The labels of every image, in the order in which the file has them; ``where`` says which line names an image.

    Raises :class:`UserError` for a column that is missing, a value that is neither 0 nor 1, a label that is empty or
    listed twice, and an image without a label where the task has no class of such.
    """
    if missing := [name for name in config.label_columns if name not in found.columns]:
        there = ", ".join(found.columns) or "none but id"
        raise UserError(f"{config.labels}: has no column {missing[0]!r} of label_columns. Its columns: {there}.")
    assert found.labels is not None
    if not (config.label_columns or config.label_separator):
        return [(label,) for label in found.labels]
    sets = []
    for row, (image, cell) in enumerate(zip(found.ids, found.labels, strict=True)):
        if config.label_columns:
            values = {name: found.columns[name][row] for name in config.label_columns}
            if odd := [name for name, value in values.items() if value not in ("0", "1")]:
                raise UserError(f"{where(image)}: {odd[0]} is {values[odd[0]]!r}, expected 0 or 1.")
            labels = tuple(name for name, value in values.items() if value == "1")
        else:
            parts = [part.strip() for part in cell.split(config.label_separator)] if cell else []
            if len(set(parts)) < len(parts) or not all(parts):
                raise UserError(f"{where(image)}: {cell!r} has an empty label or one twice. Name each label once.")
            labels = tuple(parts)
        if not labels and config.no_label is None:
            raise UserError(
                f"{where(image)}: {image} has no label. Give it one, or name the class of such images as no_label."
            )
        sets.append(labels or (str(config.no_label),))
    return sets
