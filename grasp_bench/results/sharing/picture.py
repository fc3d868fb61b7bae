"""Two runs in one picture: their sample grids beside each other, and their scores as bars."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path
from typing import Any

from grasp_bench.contracts.record import Score
from grasp_bench.errors import UserError
from grasp_bench.io import write_bytes
from grasp_bench.results.sharing.compare import Comparison, ScorePair

SAMPLES = "samples.png"
COLUMNS = 4  # of the bars
COLOURS = ("#0072b2", "#e69f00")  # Okabe and Ito's blue and orange: told apart by colour-blind readers, too
WIDTH = 0.38
TITLE = 50  # letters in a line of a score's title


def write_comparison(path: Path, found: Comparison, folders: tuple[Path, Path]) -> None:
    """A PNG of the sample grids in ``folders``, where there are any, and of every score of the groups' images.

    Whiskers are the recorded intervals, dashes what held-out real images score. Raises :class:`UserError` for a grid
    that cannot be read and a place that cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pairs = [pair for pair in found.scores if pair.scope == "group"]
    metrics = list(dict.fromkeys(pair.name for pair in pairs))
    rows = -(-len(metrics) // COLUMNS)
    pictures = [_read(folder / SAMPLES) for folder in folders]
    figure = Figure(figsize=(14, 7 + 2.4 * rows), dpi=100, layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[7, max(0.1, 2.4 * rows)])
    above, below = parts
    for axis, picture, (side, record) in zip(
        above.subplots(1, 2), pictures, (("A", found.a), ("B", found.b)), strict=True
    ):
        axis.axis("off")
        axis.set_title(f"{side}: {_plain(record.label)}, seed {record.spec.seed}", fontsize=10)
        if picture is None:
            axis.text(0.5, 0.5, f"no {SAMPLES} beside the record", ha="center", va="center")
        else:
            axis.imshow(picture)
    if metrics:
        axes = below.subplots(rows, COLUMNS, squeeze=False).ravel()
        for axis, name in zip(axes, metrics, strict=False):
            _bars(axis, [pair for pair in pairs if pair.name == name])
        for axis in axes[len(metrics) :]:
            axis.axis("off")
    verdict = "" if found.comparable else "NOT comparable. "
    legend = "whiskers: the recorded intervals; dashes: held-out real images"
    figure.suptitle(f"{verdict}A (blue) and B (orange) on {_plain(found.a.task_label)}; {legend}", fontsize=11)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    write_bytes(path, buffer.getvalue())


def _bars(axis: Any, pairs: list[ScorePair]) -> None:
    """One score: a pair of bars a group."""
    for number, pair in enumerate(pairs):
        for side, metric in enumerate((pair.a, pair.b)):
            if metric is not None and metric.value is not None:
                _bar(axis, number + (side - 0.5) * WIDTH, metric, COLOURS[side])
    axis.set_xticks(range(len(pairs)), [_plain(pair.group) for pair in pairs], fontsize=7)
    axis.tick_params(axis="y", labelsize=7)
    title = textwrap.fill(f"{_plain(pairs[0].label)} ({pairs[0].direction} is better)", TITLE)
    axis.set_title(title, fontsize=7)


def _bar(axis: Any, where: float, metric: Score, colour: str) -> None:
    axis.bar(where, metric.value, WIDTH, color=colour)
    if metric.interval is not None:
        axis.vlines(where, metric.interval.low, metric.interval.high, color="black", linewidth=1)
    if metric.reference is not None:
        axis.hlines(metric.reference, where - WIDTH / 2, where + WIDTH / 2, color="black", linestyle="--", linewidth=1)


def _plain(text: str) -> str:
    """Text that matplotlib does not take for a formula."""
    return text.replace("$", r"\$")


def _read(path: Path) -> Any:
    """Pixels of a picture, or None where there is none."""
    from PIL import Image

    if not path.is_file():
        return None
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: cannot be read as a picture ({error}). Run the run again, or delete it.") from error
