"""Pictures of a run's images: a labelled grid, and sheets that a page cuts into tiles, which carry their layout.

A sheet is a PNG file of small images, one row per class.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from grasp_bench.errors import UserError
from grasp_bench.io import check_file, write_bytes
from grasp_bench.text import printable

LAYOUT = "layout"
"""Key of the PNG text that holds the layout."""
EDGE = 64  # pixels of the longer side, after reduction
CLASSES = 30
"""Most classes in a picture of a run."""
PER_CLASS = 10
"""Most images per class in a picture of a run."""
GAP, MARGIN, TOP = 4, 10, 36  # pixels between the grid's images, around it, and above it
LABEL_SIZE, TITLE_SIZE = 13, 14  # pixels

Sheet = dict[str, np.ndarray]
"""Class → its images, all of one size: uint8 (n, H, W, C); n may differ between classes, C is 1 or 3."""


def write_grid(path: Path, rows: Sequence[tuple[str, np.ndarray]], title: str, software: str = "") -> None:
    """Write a PNG with one labelled row of images per class, in time linear in the number of images.

    ``rows`` are (label, uint8 (n, C, H, W)). Images are enlarged by a whole factor, or reduced, to sides of at most
    :data:`EDGE` pixels. ``software``, if given, is named in the file as its maker.
    """
    from PIL import Image, ImageDraw, PngImagePlugin

    font, heading = _font(LABEL_SIZE), _font(TITLE_SIZE)
    rows, title = [(printable(label), images) for label, images in rows], printable(title)
    labels = MARGIN + max(math.ceil(font.getlength(label)) for label, _ in rows)
    columns = max(len(images) for _, images in rows)
    width = max(labels + columns * (EDGE + GAP), math.ceil(heading.getlength(title))) + 2 * MARGIN
    picture = Image.new("RGB", (width, TOP + len(rows) * (EDGE + GAP) + MARGIN), "white")
    pen = ImageDraw.Draw(picture)
    pen.text((width // 2, TOP // 2), title, "black", heading, anchor="mm")
    for row, (label, images) in enumerate(rows):
        top = TOP + row * (EDGE + GAP)
        pen.text((labels, top + EDGE // 2), label, "black", font, anchor="rm")
        for column, image in enumerate(images):
            tile = _enlarged(_small(image))
            left = MARGIN + labels + column * (EDGE + GAP)
            picture.paste(tile, (left + (EDGE - tile.width) // 2, top + (EDGE - tile.height) // 2))
    buffer = io.BytesIO()
    facts = PngImagePlugin.PngInfo()
    if software:
        facts.add_text("Software", software)
    picture.save(buffer, "PNG", pnginfo=facts)
    write_bytes(path, buffer.getvalue())


def shown_classes(counts: Sequence[int]) -> list[int]:
    """Return the indices of the classes in pictures: all of them, or :data:`CLASSES` where there are more.

    They are evenly spaced from the class with the most training images, of which there are ``counts``, to the one with
    the fewest.
    """
    ranked = sorted(range(len(counts)), key=lambda index: -counts[index])
    ranks = {round(rank) for rank in np.linspace(0, len(counts) - 1, min(len(counts), CLASSES))}
    return sorted(ranked[rank] for rank in ranks)


def choice(count: int) -> str:
    """Return what a picture's title says of the choice among ``count`` classes; nothing where all are shown."""
    return "" if count <= CLASSES else f"; {CLASSES} of {count:,} classes, evenly spaced from most to fewest"


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
        with Image.open(check_file(path), formats=["PNG"]) as picture:
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


def _enlarged(picture: Any) -> Any:
    """Return a small picture enlarged by the largest whole factor that fits into :data:`EDGE`, pixels kept square."""
    from PIL import Image

    factor = EDGE // max(picture.size)
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def _font(size: int) -> Any:
    """Return the font that matplotlib brings, so that pictures are the same on every machine."""
    import matplotlib
    from PIL import ImageFont

    path = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


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
