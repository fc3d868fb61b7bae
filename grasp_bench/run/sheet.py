"""Sheets of small images, one row per class, that a page cuts into tiles: PNG files that carry their layout."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from grasp_bench.errors import UserError
from grasp_bench.io import write_bytes

LAYOUT = "layout"
"""Key of the PNG text that holds the layout."""
EDGE = 64  # pixels of the longer side, after reduction
CLASSES = 30  # rows
PER_CLASS = 10  # columns


@dataclass(frozen=True)
class Sheet:
    """Images of some classes, of one size."""

    images: dict[str, np.ndarray]
    """Class → uint8 (n, H, W, C); n may differ between classes, C is 1 or 3."""


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
            return Sheet(_cut(np.asarray(picture), layout))
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


def _cut(pixels: np.ndarray, layout: Mapping[str, Any]) -> dict[str, np.ndarray]:
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    width, height, rows = int(layout["width"]), int(layout["height"]), layout["rows"]
    _check(pixels, width, height, rows)
    return {
        str(name): np.stack([_tile(pixels, row, column, width, height) for column in range(count)])
        for row, (name, count) in enumerate(rows)
        if count
    }


def _check(pixels: np.ndarray, width: int, height: int, rows: Sequence[Sequence[Any]]) -> None:
    most = max(int(count) for _, count in rows)
    if (
        not 1 <= min(width, height) <= max(width, height) <= EDGE
        or not 1 <= most <= PER_CLASS
        or pixels.dtype != np.uint8
        or pixels.shape[:2] != (height * len(rows), width * most)
        or pixels.shape[2] not in (1, 3)
    ):
        raise ValueError(f"its layout does not fit {pixels.shape[1]} by {pixels.shape[0]} pixels of {pixels.dtype}")


def _tile(pixels: np.ndarray, row: int, column: int, width: int, height: int) -> np.ndarray:
    return pixels[row * height : (row + 1) * height, column * width : (column + 1) * width]
