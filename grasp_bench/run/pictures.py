"""Pictures of generated images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from grasp_bench.io import png, write_bytes

LETTER = 0.075  # inches, width of a letter of a label


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
