"""A picture of a partition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from grasp_bench.io import png

LETTER = 0.075  # inches, width of a letter of a label
NAMED = 2500  # cells of a partition in which numbers can be read


def draw_partition(classes: Sequence[str], clusters: Sequence[str], counts: np.ndarray, title: str) -> bytes:
    """Return a PNG of the training images of every class (rows) in every cluster (columns).

    ``counts`` is (classes, clusters). A cell is shaded by its share of its class; large partitions are drawn without
    names.
    """
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
    return png(figure)
