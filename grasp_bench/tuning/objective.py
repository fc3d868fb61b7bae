"""What a search minimises: the Fréchet distance between generated and validation images, as many of every class.

It is one distance over all classes, each of which has as many images as validation has of it, up to the budget's
images per class; an image of several labels counts for each of them. Where validation is balanced, a rare class weighs
as much as a frequent one. The mean of a distance for each group would weigh groups alike, too, but at the few images a
group has in validation it would mostly measure which images were drawn. Nothing of the test set is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np

from grasp_bench import seeds
from grasp_bench.contracts.task import Split, membership
from grasp_bench.errors import UserError
from grasp_bench.memory import Portion
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
        return frechet_distance(self.features, generated_features(pipeline, self.counts))


def generated_features(pipeline: Pipeline, counts: np.ndarray) -> np.ndarray:
    """Return features (n, d) of a trial's first ``counts`` (classes,) images of each class, class by class.

    The images are generated unless they are there already.
    """
    images = pipeline.images
    truth = images.labels if pipeline.plan.task.label_sets == "focus" else images.truth
    members: np.ndarray = membership(truth, len(counts))
    rows = [np.flatnonzero(members[:, index])[:count] for index, count in enumerate(counts)]
    return _features(pipeline, images, np.concatenate(rows))


def compared_counts(validation: Split, classes: int, at_most: int) -> np.ndarray:
    """Return how many images per class are compared (classes,). Raises :class:`UserError` where they are too few."""
    counts: np.ndarray = membership(validation.truth, classes).sum(axis=0).clip(max=at_most)
    if counts.sum() < 2:
        raise UserError(
            f"the task has {len(validation)} validation images, on which nothing can be tuned: give it some, such as "
            "with validation_share in the TOML file of a task."
        )
    return counts


def make_target(pipeline: Pipeline, counts: np.ndarray) -> Target:
    """Return ``counts`` (classes,) validation images per class, class by class, which are drawn once for the task."""
    validation, name = pipeline.data.validation, pipeline.plan.spec.task.name
    members = membership(validation.truth, len(counts))
    rows = [
        np.sort(seeds.rng("tune-validation", name, index).permutation(np.flatnonzero(members[:, index]))[:count])
        for index, count in enumerate(counts)
    ]
    return Target(_features(pipeline, validation, np.concatenate(rows)), counts)


def _features(pipeline: Pipeline, split: Split, rows: np.ndarray) -> np.ndarray:
    """Return the features (rows, d) of some of a split's images, of which a part is in memory at a time."""
    parts = np.array_split(rows, -(-len(rows) // AT_ONCE))
    portion = Portion(AT_ONCE, "images' features are extracted", pipeline.progress.say)
    found = (portion.over(split.read(part), pipeline.extractor.features) for part in parts)
    return np.concatenate(list(chain.from_iterable(found)))
