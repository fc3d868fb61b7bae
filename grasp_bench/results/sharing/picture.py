"""Two runs in one picture: their sample grids side by side, and their scores as bars."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grasp_bench.contracts.record import DRAW
from grasp_bench.errors import UserError
from grasp_bench.io import png, write_bytes
from grasp_bench.results.sharing.compare import Comparison
from grasp_bench.run.files import PICTURE
from grasp_bench.text import drawn_literally, printable

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = 4  # of the bars
COLOURS = {"a": "#0072b2", "b": "#e69f00"}  # Okabe and Ito's blue and orange, which colour-blind readers tell apart
WIDTH = 0.38
TITLE = 50  # letters in a line of a score's title


@drawn_literally()
def write_comparison(path: Path, found: Comparison, folders: tuple[Path, Path], software: str) -> None:
    """Write a PNG of the sample grids in ``folders``, where there are any, and of the scores of whole groups.

    Whiskers are 95 % intervals over images or patients, dashes the real references. ``software`` is named in the file
    as its maker. Raises :class:`UserError` for a grid that cannot be read and a place that cannot be written.
    """
    from matplotlib.figure import Figure

    pooled = found.scores[found.scores.index.get_level_values("scope") == "group"]
    metrics = [rows for _, rows in pooled.groupby(["metric", "source", "test_set"], sort=False)]
    rows = -(-len(metrics) // COLUMNS)
    pictures = [_read(folder / PICTURE) for folder in folders]
    figure = Figure(figsize=(14, 7 + 2.4 * rows), dpi=100, layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[7, max(0.1, 2.4 * rows)])
    above, below = parts
    for axis, picture, (side, record) in zip(
        above.subplots(1, 2), pictures, (("A", found.a), ("B", found.b)), strict=True
    ):
        axis.axis("off")
        axis.set_title(f"{side}: {printable(str(record.row))}, seed {record.spec.seed}", fontsize=10)
        if picture is None:
            axis.text(0.5, 0.5, f"no {PICTURE} beside the record", ha="center", va="center")
        else:
            axis.imshow(picture)
    if metrics:
        axes = below.subplots(rows, COLUMNS, squeeze=False).ravel()
        for axis, each in zip(axes, metrics, strict=False):
            _bars(axis, each)
        for axis in axes[len(metrics) :]:
            axis.axis("off")
    verdict = "" if found.comparable else "NOT comparable. "
    legend = "whiskers: 95 % intervals over test images or patients; dashes: real reference"
    figure.suptitle(f"{verdict}A (blue) and B (orange) on {printable(found.a.task_label)}; {legend}", fontsize=11)
    write_bytes(path, png(figure, software))


def _bars(axis: Any, scores: pd.DataFrame) -> None:
    """Draw one metric: a pair of bars per group."""
    for side, offset in (("a", -0.5), ("b", 0.5)):
        for number, score in enumerate(scores.filter(regex=f"_{side}$").itertuples()):
            where = number + offset * WIDTH
            value, low, high, reference, unit = (
                getattr(score, f"{name}_{side}") for name in ("value", "low", "high", "reference", "unit")
            )
            axis.bar(where, value, WIDTH, color=COLOURS[side])
            if unit != DRAW:  # percentiles over draws are no interval
                axis.vlines(where, low, high, color="black", linewidth=1)
            axis.hlines(reference, where - WIDTH / 2, where + WIDTH / 2, color="black", linestyle="--", linewidth=1)
    groups = scores.index.get_level_values("group")
    axis.set_xticks(range(len(scores)), [printable(group) for group in groups], fontsize=7)
    axis.tick_params(axis="y", labelsize=7)
    first = scores.iloc[0]
    title = textwrap.fill(f"{printable(first['metric_label'])} ({first['direction']} is better)", TITLE)
    axis.set_title(title, fontsize=7)


def _read(path: Path) -> Any:
    """Return the pixels of a picture, or None where there is no file."""
    from PIL import Image

    if not path.is_file():
        return None
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: cannot be read as a picture ({error}). Rerun the run, or delete the file.") from error
