"""What a classifier of images that may have several labels says of each: thresholds are chosen on validation images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sklearn.metrics import precision_recall_curve

from grasp_bench.contracts.task import ClassifierRecipe, Split
from grasp_bench.downstream.classifier import predicted


def label_probabilities(
    model: torch.nn.Module,
    images: Split,
    validation: Split,
    recipe: ClassifierRecipe,
    device: torch.device,
    say: Callable[[str], None] = lambda message: None,
) -> np.ndarray:
    """Predicted probabilities of every label, of images that may have several: float64 (n, classes).

    Those of a label are moved along its logarithmic odds so that 0.5 is its threshold: the one with the best F1 on
    ``validation``. Ranks, and so AUROC and average precision, stay as they are.
    """
    on_validation, on_images = (
        predicted(model, each, recipe, device, say, lambda logits: logits) for each in (validation, images)
    )
    assert validation.sets is not None
    moved = on_images.astype(np.float64) - thresholds(validation.sets, on_validation)
    found: np.ndarray = torch.from_numpy(moved).sigmoid().numpy()
    return found


def thresholds(sets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The threshold of each label with the best F1 of ``scores`` (n, classes) for ``sets``, bool (n, classes).

    It lies half-way to the next lower score, so that images are found from it on: (classes,). A label that no image has
    keeps 0, at which a logit means a probability of one half.
    """
    found = np.zeros(sets.shape[1])
    for index in np.flatnonzero(sets.any(axis=0)):
        precision, recall, cuts = precision_recall_curve(sets[:, index], scores[:, index].astype(np.float64))
        f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
        best = int(f1[:-1].argmax())
        found[index] = cuts[max(best - 1, 0) : best + 1].mean()
    return found
