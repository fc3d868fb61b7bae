"""Images of one class and seed side by side: real ones, then every method's."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from grasp_bench.errors import UserError
from grasp_bench.io import check_file
from grasp_bench.results.site.beside import Beside
from grasp_bench.results.site.boards import Board, Run
from grasp_bench.run.files import GENERATED_SHEET, PICTURE, REAL_SHEET
from grasp_bench.run.pictures import Sheet, read_sheet
from grasp_bench.text import counted

MOST_BYTES = 4_000_000  # of images on one page
SMALL = 16  # pixels up to which tiles are kept as they are
GAP = 1 / 12  # between tiles, of their width
QUALITY = 80
PICTURE_WIDTH = 640  # pixels of a whole picture


@dataclass
class Samples:
    """The images of a leaderboard that the page shows."""

    methods: dict[str, str] = field(default_factory=dict)
    """Label of each row that has sheets → its name."""
    classes: list[str] = field(default_factory=list)
    """Classes with images on the page, in the order of the sheets."""
    seeds: list[int] = field(default_factory=list)
    """Seeds with images on the page."""
    real: dict[str, str] = field(default_factory=dict)
    """Class → strip of real images: a data URI, or a path from the page."""
    generated: dict[str, dict[str, list[str | None]]] = field(default_factory=dict)
    """Seed → class → each method's strip."""
    pictures: dict[str, str] = field(default_factory=dict)
    """Name of a row without sheets → the picture of its first run."""
    left_out: list[str] = field(default_factory=list)
    """Sentences on what the page leaves out."""
    pixelated: bool = False
    """Whether the images are so small that they are enlarged without interpolation."""

    def choices(self) -> dict[str, Any]:
        """Return what the page's script shows by class and seed."""
        return {"methods": list(self.methods.values()), "real": self.real, "generated": self.generated}


class Allowance:
    """The number of bytes that images on the page may still take."""

    def __init__(self) -> None:
        self.left = MOST_BYTES

    def takes(self, images: list[str | None]) -> bool:
        """Return whether all of ``images`` fit; if they do, they are counted."""
        size = sum(len(image) for image in images if image)
        if size > self.left:
            return False
        self.left -= size
        return True


def samples(board: Board, allowance: Allowance, beside: Beside | None = None) -> Samples:
    """Return the strips and pictures of a leaderboard that fit into the ``allowance``.

    With ``beside``, the page holds the strips of the first seed and class alone; the others are files.
    """
    shown = Samples()
    sheets = _sheets(board, shown)
    labels = {label for label, _ in sheets}
    shown.methods = {label: board.names[label] for label in board.indices if label in labels}
    real = next(iter(_found(board, REAL_SHEET, shown)), None)
    classes = list(dict.fromkeys(name for sheet in sheets.values() for name in sheet))
    wanted = [(seed, name) for seed in sorted({seed for _, seed in sheets}) for name in reversed(classes)]
    kept = 0
    for seed, name in wanted:
        strips = [_strip(sheets.get((label, seed)), name) for label in shown.methods]
        own = _strip(real, name) if real and name not in shown.real else None
        if beside and kept:
            strips, own = [each and beside.image(each) for each in strips], own and beside.image(own)
        elif not allowance.takes([*strips, own]):
            break
        kept += 1
        shown.generated.setdefault(str(seed), {})[name] = strips
        if own:
            shown.real[name] = own
    if kept < len(wanted):
        shown.left_out.append(f"Images of {len(wanted) - kept} of {len(wanted)} classes and seeds.")
    shown.seeds = [int(seed) for seed in shown.generated]
    shown.classes = [name for name in classes if any(name in each for each in shown.generated.values())]
    shown.pixelated = any(max(each.shape[1:3]) <= SMALL for sheet in sheets.values() for each in sheet.values())
    _add_pictures(board, shown, allowance, beside)
    return shown


def _sheets(board: Board, shown: Samples) -> dict[tuple[str, int], Sheet]:
    """Return (label of the row, seed) → sheet of generated images."""
    found = {}
    for label in board.indices:
        for run in board.finished(label):
            for sheet in _read(run, GENERATED_SHEET, shown):
                found[label, run.seed] = sheet
    return found


def _found(board: Board, name: str, shown: Samples) -> Iterator[Sheet]:
    for label in board.indices:
        for run in board.finished(label):
            yield from _read(run, name, shown)


def _read(run: Run, name: str, shown: Samples) -> list[Sheet]:
    """Return the sheet in a list, which is empty if the run has none that can be read."""
    path = run.found.folder / name
    if not path.is_file():
        return []
    try:
        return [read_sheet(path)]
    except UserError as error:
        shown.left_out.append(str(error))
        return []


def _strip(sheet: Sheet | None, name: str) -> str | None:
    """Return the images of a class side by side, as a data URI: PNG for small images, else WebP."""
    from PIL import Image

    if sheet is None or name not in sheet:
        return None
    tiles = sheet[name]
    count, height, width, channels = tiles.shape
    gap = max(1, round(width * GAP))
    strip = np.zeros((height, count * (width + gap) - gap, channels + 1), np.uint8)  # transparent in between
    for number, tile in enumerate(tiles):
        start = number * (width + gap)
        strip[:, start : start + width] = np.concatenate([tile, np.full((height, width, 1), 255, np.uint8)], axis=-1)
    return _uri(Image.fromarray(strip), lossless=max(height, width) <= SMALL)


def _add_pictures(board: Board, shown: Samples, allowance: Allowance, beside: Beside | None) -> None:
    """Add the pictures of methods without sheets."""
    missing = 0
    for label in board.indices:
        if label in shown.methods:
            continue
        paths = [run.found.folder / PICTURE for run in board.finished(label)]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            continue
        uri = _reduced(path)
        if uri is None:
            shown.left_out.append(f"{path}: cannot be read as a PNG picture.")
        elif beside:
            shown.pictures[board.names[label]] = beside.image(uri)
        elif allowance.takes([uri]):
            shown.pictures[board.names[label]] = uri
        else:
            missing += 1
    if missing:
        shown.left_out.append(f"Pictures of {counted(missing, 'method')}; they are beside the records, as {PICTURE}.")


def _reduced(path: Path) -> str | None:
    from PIL import Image

    try:
        with Image.open(check_file(path), formats=["PNG"]) as opened:
            picture = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    picture.thumbnail((PICTURE_WIDTH, 4 * PICTURE_WIDTH))
    return _uri(picture, lossless=False)


def _uri(picture: Any, lossless: bool) -> str:
    buffer = io.BytesIO()
    if lossless:
        picture.save(buffer, "PNG", optimize=True)
    else:
        picture.save(buffer, "WEBP", quality=QUALITY)
    kind = "png" if lossless else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
