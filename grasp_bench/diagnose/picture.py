"""Heat maps of cosines, by layer kind and noise level."""

from __future__ import annotations

from typing import Any

import numpy as np

from grasp_bench.io import png
from grasp_bench.text import drawn_literally, printable

NAMED = 30  # classes whose names can be read


@drawn_literally()
def draw_cosines(found: dict[str, Any]) -> bytes:
    """Return a PNG with one row per kind of layer and one column per noise level: groups, then classes.

    The diagonal is the cosine of a mean with the mean of other images, which falls with noise; off the diagonal,
    cosines are corrected for that noise. Cells that cannot be measured are grey.
    """
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
            names = [*map(printable, block["names"])] if len(block["names"]) <= NAMED else []
            rows, columns = names if cell["level"] == 0 else [], names if row == len(kinds) - 1 else []
            axis.set_xticks(range(len(columns)), columns, rotation=90, fontsize=7)
            axis.set_yticks(range(len(rows)), rows, fontsize=7)
            if row == 0:
                low, high = levels[cell["level"]]
                axis.set_title(f"t {low:g}-{high:g}", fontsize=8)
            if column == 0:
                axis.set_ylabel(cell["kind"], fontsize=8)
    figure.colorbar(shown, ax=axes, shrink=0.6, label="cosine; on the diagonal, with the mean of other images")
    title = f"{found['label']} on {found['task']}, seed {found['run_seed']}, step {found['step']}"
    figure.suptitle(f"{printable(title)}: gradients of groups (left) and classes (right)", fontsize=9)
    return png(figure)


def with_ceilings(cell: dict[str, Any]) -> np.ndarray:
    """Return a cell's cosines (V, V) with its ceilings on the diagonal; NaN where not measurable."""
    cosines = np.array(cell["cosine"], np.float64)
    np.fill_diagonal(cosines, np.array(cell["ceiling"], np.float64))
    return cosines
