"""Heat maps of cosines, by layer kind and noise level."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

NAMED = 30  # classes whose names can be read


def draw_cosines(found: dict[str, Any]) -> bytes:
    """A PNG: a row a kind of layer; a column a noise level, first groups × groups, then classes × classes.

    The diagonal is the cosine of a mean with that of other images, which is lower the more noise there is; beside it
    cosines are corrected for that. What is not measurable is grey.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    levels, blocks = found["levels"], (found["groups"], found["classes"])
    kinds = list(dict.fromkeys(cell["kind"] for cell in blocks[0]["cells"]))
    size = (2.2 + 2.0 * len(levels) * len(blocks), 0.9 + 2.1 * len(kinds))
    figure = Figure(figsize=size, dpi=80, layout="constrained")
    axes = figure.subplots(len(kinds), len(levels) * len(blocks), squeeze=False)
    shown: Any = None
    for number, block in enumerate(blocks):
        for cell in block["cells"]:
            row, column = kinds.index(cell["kind"]), number * len(levels) + cell["level"]
            axis = axes[row, column]
            axis.set_facecolor("0.8")
            shown = axis.imshow(with_ceilings(cell), cmap="RdBu", vmin=-1, vmax=1)
            _name(axis, block["names"], rows=cell["level"] == 0, columns=row == len(kinds) - 1)
            if row == 0:
                low, high = levels[cell["level"]]
                axis.set_title(f"t {low:g}-{high:g}", fontsize=8)
            if column == 0:
                axis.set_ylabel(cell["kind"], fontsize=8)
    figure.colorbar(shown, ax=axes, shrink=0.6, label="cosine; on the diagonal, of a mean with that of other images")
    title = f"{found['label']} on {found['task']}, seed {found['run_seed']}, step {found['step']}"
    figure.suptitle(f"{title}: gradients of groups (left) and classes (right)", fontsize=9)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def with_ceilings(cell: dict[str, Any]) -> np.ndarray:
    """A cell's cosines (V, V), on the diagonal each vector's agreement with itself; NaN where not measurable."""
    cosines = np.array(cell["cosine"], np.float64)
    np.fill_diagonal(cosines, np.array(cell["ceiling"], np.float64))
    return cosines


def _name(axis: Any, names: list[str], rows: bool, columns: bool) -> None:
    readable = len(names) <= NAMED
    axis.set_xticks(range(len(names)) if columns and readable else [])
    axis.set_yticks(range(len(names)) if rows and readable else [])
    if columns and readable:
        axis.set_xticklabels(names, rotation=90, fontsize=7)
    if rows and readable:
        axis.set_yticklabels(names, fontsize=7)
