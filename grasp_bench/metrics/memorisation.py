"""Memorisation: generated images that are, or nearly are, training images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grasp_bench.contracts.metric import FeatureMetric, Sets
from grasp_bench.metrics._arrays import as_pair
from grasp_bench.metrics._distances import nearest

NEAR = 0.1
"""The ratio up to which a generated image is a near duplicate where nothing else is asked for: our own choice."""


class ShareOfAuthentic(FeatureMetric):
    """Authenticity: generated images that are no copies of training images

    An image is a copy where its nearest training image has no other training image nearer to itself; so it is where
    both are equally near, and one that equals a training image always is. The file ``copies.csv`` beside a record lists
    near duplicates.
    """

    name = "authenticity"
    version = "1"
    label = "Authenticity"
    worse_with = "copies"
    direction = "higher"
    bounds = (0.0, 1.0)
    position = 110
    uses_train = True
    train_minimum = 2
    definition = (
        "Share of generated images that are no nearer to a training image than that one is to the next: those that "
        "are no copies."
    )
    misleads = (
        "Images far from all real ones are authentic too, and in a dense class honest images lie near training ones. "
        "Below its real reference, which held-out images reach, it means copying."
    )
    source = "Alaa et al., ICML 2022"

    def value(self, given: Sets) -> float | None:
        if given.train is None or len(given.train) < 2:
            return None
        return 1 - len(near_duplicates(given.train, given.generated, 1.0)) / len(given.generated)


@dataclass(frozen=True, eq=False)
class Matches:
    """Generated images with their nearest training images, the nearest pair first."""

    fake: np.ndarray
    """Indices of generated images (c,)."""
    train: np.ndarray
    """Indices of their nearest training images (c,)."""
    distance: np.ndarray
    """Euclidean distances between the two (c,); 0 for equal rows."""
    ratio: np.ndarray
    """Distance over that from the training image to the training image nearest to it (c,); 0 for equal rows."""

    def __len__(self) -> int:
        return len(self.fake)


def near_duplicates(train: np.ndarray, fake: np.ndarray, ratio: float) -> Matches:
    """Rows of ``fake`` (n, d) that are at most ``ratio`` times as far from a row of ``train`` (N, d) as its neighbour.

    Compared are the distance to the nearest training image, and the distance from that image to the training image
    nearest to it: a scale that needs no knowledge of the features. At 0 the matches are equal rows, at 1 all rows that
    are not authentic (Alaa et al., How Faithful is your Synthetic Data?, ICML 2022). Distances are held for a block of
    rows at a time; time grows with N n d.

    Raises ValueError for a ratio outside [0, 1], fewer than two training rows, no generated ones, widths that differ,
    NaN and infinity.
    """
    if not 0 <= ratio <= 1:
        raise ValueError(f"ratio = {ratio}, expected a number from 0 to 1")
    train, fake = as_pair(train, fake, minimum=1, names=("train", "fake"))
    if len(train) < 2:
        raise ValueError(f"train: n = {len(train)}, at least 2 rows are needed")
    indices, distances = nearest(fake, train)
    used, positions = np.unique(indices, return_inverse=True)
    own = nearest(train[used], train, used)[1][positions]
    ratios = np.where(distances == 0, 0.0, np.inf)  # where the training image has an equal one
    np.divide(distances, own, out=ratios, where=own > 0)
    order = np.argsort(distances, kind="stable")
    order = order[ratios[order] <= ratio]
    return Matches(order, indices[order], distances[order], ratios[order])
