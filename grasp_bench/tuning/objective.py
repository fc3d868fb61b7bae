"""What a search minimises: the Fréchet distance between generated and validation images, as many of every class.

It is one distance over all classes, each of which has as many images as validation has of it, up to the budget's
images a class; where validation is balanced, a rare class weighs as much as a frequent one. The mean of a distance for
each group would weigh groups alike, too, but at the few images a group has in validation it would mostly measure which
images were drawn. Nothing of the test set is read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grasp_bench import seeds
from grasp_bench.contracts.extractor import Extractor
from grasp_bench.contracts.task import Split
from grasp_bench.errors import UserError
from grasp_bench.metrics import frechet_distance
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.stages.features import AT_ONCE

OBJECTIVE = "Fréchet distance between generated and validation images, as many of every class"


@dataclass(frozen=True)
class Target:
    """The validation images that trials of a task are scored against."""

    features: np.ndarray
    """Features of the validation images (n, d)."""
    counts: np.ndarray
    """Number of images per class (classes,)."""

    def distance(self, pipeline: Pipeline) -> float:
        """Return the distance of a trial's images; they are generated unless they are there already."""
        images = pipeline.images
        rows = [np.flatnonzero(images.labels == index)[:count] for index, count in enumerate(self.counts)]
        return frechet_distance(self.features, _features(pipeline.extractor, images, np.concatenate(rows)))


def compared_counts(validation: Split, classes: int, at_most: int) -> np.ndarray:
    """Return how many images per class are compared (classes,). Raises :class:`UserError` where they are too few."""
    counts = np.bincount(validation.labels, minlength=classes).clip(max=at_most)
    if counts.sum() < 2:
        raise UserError(
            f"the task has {len(validation)} validation images, on which nothing can be tuned: give it some, such as "
            "with validation_share in the TOML file of a task."
        )
    return counts


def make_target(pipeline: Pipeline, counts: np.ndarray) -> Target:
    """Return features of ``counts`` (classes,) validation images per class, which are drawn once for the task."""
    validation, name = pipeline.data.validation, pipeline.plan.spec.task.name
    rows = [
        np.sort(
            seeds.rng("tune-validation", name, index).permutation(np.flatnonzero(validation.labels == index))[:count]
        )
        for index, count in enumerate(counts)
    ]
    return Target(_features(pipeline.extractor, validation, np.concatenate(rows)), counts)


def _features(extractor: Extractor, split: Split, rows: np.ndarray) -> np.ndarray:
    """Return the features (rows, d) of some of a split's images, of which a part is in memory at a time."""
    parts = np.array_split(rows, -(-len(rows) // AT_ONCE))
    return np.concatenate([extractor.features(split.read(part)) for part in parts])
