"""Pictures of a run's images: a labelled grid, and sheets that a page cuts into tiles, which carry their layout.

A sheet is a PNG file of small images, one row per class.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from grasp_bench.errors import UserError
from grasp_bench.io import png, write_bytes

LETTER = 0.075  # inches, width of a letter of a label of the grid
LAYOUT = "layout"
"""Key of the PNG text that holds the layout."""
EDGE = 64  # pixels of the longer side, after reduction
CLASSES = 30  # rows
PER_CLASS = 10  # columns


Sheet = dict[str, np.ndarray]
"""Class → its images, all of one size: uint8 (n, H, W, C); n may differ between classes, C is 1 or 3."""


def write_grid(path: Path, rows: list[tuple[str, np.ndarray]], title: str) -> None:
    """Write a PNG with one labelled row of images per class: ``rows`` of (label, uint8 (n, C, H, W))."""
    from matplotlib.figure import Figure

    columns = max(len(images) for _, images in rows)
    labels = max(1.8, max(len(label) for label, _ in rows) * LETTER)
    figure = Figure(figsize=(labels + 0.6 * columns, 0.5 + 0.62 * len(rows)), dpi=100, layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for (label, images), line in zip(rows, axes, strict=True):
        for axis in line:
            axis.axis("off")
        for axis, image in zip(line, images, strict=False):
            pixels = image.transpose(1, 2, 0)
            axis.imshow(pixels[..., 0] if pixels.shape[-1] == 1 else pixels, cmap="gray", vmin=0, vmax=255)
        line[0].text(-0.2, 0.5, label, transform=line[0].transAxes, ha="right", va="center", fontsize=9)
    figure.suptitle(title, fontsize=10)
    write_bytes(path, png(figure))


def shown_classes(count: int) -> list[int]:
    """Return the indices of the classes on a sheet: all of ``count``, or evenly spaced ones that fit."""
    return sorted({round(index) for index in np.linspace(0, count - 1, min(count, CLASSES))})


def write_sheet(path: Path, rows: Mapping[str, np.ndarray]) -> None:
    """Write images of each class, uint8 (n, C, H, W) of one size, n ≤ :data:`PER_CLASS`, reduced to :data:`EDGE`."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    images = {name: [_small(image) for image in each] for name, each in rows.items()}
    first = next(image for each in images.values() for image in each)
    width, height = first.size
    sheet = Image.new(first.mode, (width * max(map(len, images.values())), height * len(images)))
    for row, each in enumerate(images.values()):
        for column, image in enumerate(each):
            sheet.paste(image, (column * width, row * height))
    layout = {"width": width, "height": height, "rows": [[name, len(each)] for name, each in images.items()]}
    text = PngInfo()
    text.add_text(LAYOUT, json.dumps(layout))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", pnginfo=text, optimize=True)
    write_bytes(path, buffer.getvalue())


def read_sheet(path: Path) -> Sheet:
    """Return the images of a sheet. Raises :class:`UserError` if the file is not a sheet."""
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as picture:
            layout = json.loads(picture.text[LAYOUT])
            return _cut(np.asarray(picture), layout)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
        SyntaxError,
        Image.DecompressionBombError,
    ) as error:
        raise UserError(f"{path}: not a sheet of images that a run wrote ({error}). Rerun the run.") from error


def _small(image: np.ndarray) -> Any:
    """Return an image (C, H, W) of 1 or 3 channels with sides of at most :data:`EDGE` pixels."""
    from PIL import Image

    picture = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
    picture.thumbnail((EDGE, EDGE), Image.Resampling.LANCZOS)
    return picture


def _cut(pixels: np.ndarray, layout: Mapping[str, Any]) -> Sheet:
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    width, height = int(layout["width"]), int(layout["height"])
    rows = [(str(name), int(count)) for name, count in layout["rows"]]
    counts = [count for _, count in rows]
    if (
        not 1 <= min(width, height) <= max(width, height) <= EDGE
        or not 0 <= min(counts) <= max(counts) <= PER_CLASS
        or pixels.dtype != np.uint8
        or pixels.shape[:2] != (height * len(rows), width * max(counts))
        or pixels.shape[2] not in (1, 3)
    ):
        raise ValueError(f"its layout does not fit {pixels.shape[1]} by {pixels.shape[0]} pixels of {pixels.dtype}")
    lines = pixels.reshape(len(rows), height, max(counts), width, -1).swapaxes(1, 2)
    return {name: line[:count] for (name, count), line in zip(rows, lines, strict=True) if count}
