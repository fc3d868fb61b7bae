"""Pictures of generated images and of partitions."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from grasp_bench.io import write_bytes

LETTER = 0.075  # inches that a letter of a label takes
NAMED = 2500  # cells of a partition that numbers can be read in


def write_grid(path: Path, rows: list[tuple[str, np.ndarray]], title: str) -> None:
    """A PNG with one labelled row of images a class: ``rows`` of (label, uint8 (n, C, H, W))."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
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
    write_bytes(path, _png(FigureCanvasAgg(figure)))


def draw_partition(classes: Sequence[str], clusters: Sequence[str], counts: np.ndarray, title: str) -> bytes:
    """A PNG of a partition: the training images of every class (rows) in every cluster (columns), from ``counts``
    (classes, clusters). A cell is shaded by its share of its class; large partitions are drawn without names.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    named = counts.size <= NAMED
    cell = (0.62, 0.28) if named else (0.03, 0.03)  # inches
    margins = (0.3 + max(map(len, classes)) * LETTER, 0.6 + max(map(len, clusters)) * LETTER) if named else (0.6, 0.6)
    size = (max(4.0, margins[0] + cell[0] * len(clusters)), margins[1] + cell[1] * len(classes))
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    axis = figure.subplots()
    axis.imshow(counts / counts.sum(1, keepdims=True).clip(1), cmap="Blues", vmin=0, vmax=2, aspect="auto")
    if named:
        axis.set_xticks(range(len(clusters)), clusters, rotation=90, fontsize=8)
        axis.set_yticks(range(len(classes)), classes, fontsize=8)
        for row, column in zip(*counts.nonzero(), strict=True):
            axis.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=8)
    else:
        axis.set(xticks=[], yticks=[], xlabel=f"{len(clusters)} clusters", ylabel=f"{len(classes)} classes")
    figure.suptitle(title, fontsize=9)
    return _png(FigureCanvasAgg(figure))


def _png(canvas: Any) -> bytes:
    buffer = io.BytesIO()
    canvas.print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()
