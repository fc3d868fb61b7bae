"""Metrics that break one sentence of the contract each."""

import numpy as np

from grasp_bench.contracts.metric import ClassifierMetric, FeatureMetric


class Spread(FeatureMetric):
    """Keeps the contract: distance of the means"""

    name = "spread"
    version = "1"
    label = "Distance of means"
    direction = "lower"
    bounds = (0.0, np.inf)
    definition = "Distance between the mean of generated and of real features."
    misleads = "It knows nothing but means."
    source = "the tests"
    worse_with = "collapse"

    def value(self, given):
        return float(np.linalg.norm(given.real.mean(0) - given.generated.mean(0)))


class Fragments(Spread):
    """Its texts are no sentences"""

    misleads = "sometimes"


class NotFinite(Spread):
    """Gives no number"""

    def value(self, given):
        return float("nan")


class Unbounded(Spread):
    """Leaves its bounds"""

    bounds = (-2.0, -1.0)


class Random(Spread):
    """Draws from a stream that others draw from, too"""

    def value(self, given):
        return super().value(given) + np.random.rand()


class Centring(Spread):
    """Changes what it is given"""

    def value(self, given):
        found = super().value(given)
        given.generated[:] -= given.generated.mean(0)
        return found


class Ordered(Spread):
    """Looks at the first image alone"""

    def value(self, given):
        return float(np.linalg.norm(given.real.mean(0) - given.generated[0]))


class Demanding(Spread):
    """Needs more images than it says"""

    def value(self, given):
        return super().value(given) if len(given.real) > 20 else float("inf")


class Upside(Spread):
    """Is better the larger it is, it says"""

    direction = "higher"


class Shares(ClassifierMetric):
    """Keeps the contract: share of right predictions of each class"""

    name = "shares"
    version = "1"
    label = "Recall"
    direction = "higher"
    bounds = (0.0, 1.0)
    definition = "Share of a class's images that are recognised."
    misleads = "It knows nothing of wrong claims."
    source = "the tests"

    def value(self, given):
        right = given.probabilities.argmax(1) == given.labels
        return np.bincount(given.labels, right, given.classes) / np.bincount(
            given.labels, minlength=given.classes
        ).clip(1)


class OneForAll(Shares):
    """Gives one number for all classes"""

    def value(self, given):
        return super().value(given).mean()


class Backwards(Shares):
    """Is better the smaller it is, it says"""

    direction = "lower"


class Unweighted(Shares):
    """Does not look at weights"""

    def weighted(self, given):
        return np.tile(self.value(given), (len(given.weights), 1))
