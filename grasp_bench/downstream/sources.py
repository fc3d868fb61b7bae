"""Training sets of downstream classifiers."""

from __future__ import annotations

import numpy as np

from grasp_bench.contracts.task import Split


def topped_up(real: Split, generated: Split, classes: int) -> Split:
    """Real images, and per class as many generated ones as it lacks to the largest class, as far as there are."""
    counts = np.bincount(real.labels, minlength=classes)
    missing = counts.max() - counts
    rows = np.concatenate([np.flatnonzero(generated.labels == c)[: missing[c]] for c in range(classes)])

    def read(indices: np.ndarray) -> np.ndarray:
        chosen = np.asarray(indices)
        is_real = chosen < len(real)
        parts = [
            (where, split.read(own))
            for where, split, own in (
                (is_real, real, chosen[is_real]),
                (~is_real, generated, rows[chosen[~is_real] - len(real)]),
            )
            if len(own)
        ]
        images = np.empty((len(chosen), *parts[0][1].shape[1:]), np.uint8)
        for where, part in parts:
            images[where] = part
        return images

    return Split(
        ids=[*real.ids, *(generated.ids[row] for row in rows)],
        labels=np.concatenate([real.labels, generated.labels[rows]]),
        prompts=[*real.prompts, *(generated.prompts[row] for row in rows)],
        read=read,
    )
