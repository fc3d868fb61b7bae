"""The conformance suite of a metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from grasp_bench import plugins
from grasp_bench.contracts.metric import ClassifierMetric, FeatureMetric, Metric, Predictions, Sets
from grasp_bench.errors import UserError
from grasp_bench.testing.checks import Check, NotApplicable, require, source_of
from grasp_bench.testing.declarations import declaration_checks

if TYPE_CHECKING:
    import numpy as np

IMAGES, WIDTH, CLASSES = 64, 6, 4
ROUNDING = 1e-6  # of a value, as a share of its size
K = 5
OF_ALL = {
    "attributes": "Its bounds are a pair in their order, and definition and misleads are whole sentences.",
    "finite": "It gives a finite number within its bounds.",
    "deterministic": "Equal inputs give equal numbers, bit for bit, whatever was drawn or measured before.",
    "data-untouched": "It changes nothing of what it is given.",
    "order": "It does not depend on the order of images, up to rounding (1e-6 of its size).",
}
OF_FEATURES = {
    "minimum": "It gives a finite number for as few images as it says that it needs.",
    "direction": "By its direction, held-out real images and the real images themselves score better than images with "
    "the flaw that it declares as worse_with.",
    "scored": "It goes through a comparison of groups of classes with a bootstrap, as in a run.",
}
OF_CLASSIFIERS = {
    "direction": "By its direction, good predictions score better than predictions of random classes.",
    "resamples": "An image counts as often as a resample holds it, and a class that it does not hold gives NaN.",
}
"""Check → what must be so."""


def metric_checks(name: str, settings: Sequence[str] = ()) -> list[Check]:
    """The checks of the metric ``name``, on random features or predictions.

    Raises :class:`UserError` for an unknown name, for a plugin that cannot be loaded and for settings, of which
    metrics have none.
    """
    plugin = plugins.load("metrics", name)
    if settings:
        raise UserError(f"metric {name} has no settings: leave out {', '.join(settings)}.")
    kind, contracts = (
        (_Features, OF_ALL | OF_FEATURES)
        if issubclass(plugin, FeatureMetric)
        else (_Classifiers, OF_ALL | OF_CLASSIFIERS)
    )
    subject = kind(plugin())
    return declaration_checks("metrics", plugin) + [
        Check(each, contract, getattr(subject, each.replace("-", "_")), source_of(plugin))
        for each, contract in contracts.items()
    ]


class _Subject:
    """A metric, and what it is tried on."""

    def __init__(self, metric: Any) -> None:
        self.metric = metric

    def given(self) -> Any:
        """Fresh inputs, equal every time."""
        raise NotImplementedError

    def number(self, given: Any) -> np.ndarray:
        """Its value as an array. Raises :class:`NotApplicable` where it has none."""
        import numpy as np

        value = self.metric.value(given)
        if value is None:
            raise NotApplicable("it has no value for these images")
        return np.asarray(value, dtype=np.float64)

    def reordered(self) -> Any:
        """The same images in another order."""
        raise NotImplementedError

    def attributes(self) -> None:
        bounds = self.metric.bounds
        require(len(bounds) == 2 and bounds[0] < bounds[1], f"bounds = {bounds!r}")
        for name in ("definition", "misleads"):
            text = getattr(self.metric, name).strip()
            require(text[:1].isupper() and text.endswith("."), f"{name} = {text!r}")

    def finite(self) -> None:
        import numpy as np

        value, (low, high) = self.number(self.given()), self.metric.bounds
        require(bool(np.isfinite(value).all()), f"{value}")
        require(bool(((value >= low) & (value <= high)).all()), f"{value}, with bounds {low} and {high}")

    def deterministic(self) -> None:
        import numpy as np

        first, shared = self.number(self.given()), self.given()
        np.random.random()  # a stream that a metric must not draw from
        for other in plugins.available("metrics").values():
            if issubclass(other, _kind(self.metric)) and other is not type(self.metric):
                other().value(shared)
        again = self.number(shared)
        require(np.array_equal(first, again), f"{first}, and then {again}")

    def data_untouched(self) -> None:
        import numpy as np

        given, before = self.given(), self.given()
        self.number(given)
        changed = [
            name
            for name, value in vars(before).items()
            if isinstance(value, np.ndarray) and not np.array_equal(value, getattr(given, name))
        ]
        require(not changed, f"it changed {', '.join(changed)}")

    def order(self) -> None:
        import numpy as np

        first, again = self.number(self.given()), self.number(self.reordered())
        require(np.allclose(first, again, rtol=ROUNDING, atol=ROUNDING), f"{first}, and in another order {again}")

    def better(self, good: float, bad: float) -> bool:
        """Whether ``good`` is better than ``bad`` by the metric's direction."""
        return good < bad if self.metric.direction == "lower" else good > bad


class _Features(_Subject):
    def given(self, images: int = IMAGES) -> Sets:
        import numpy as np

        state = np.random.default_rng(0)
        real, generated, held_out, train = (state.normal(1, 1, (n, WIDTH)) for n in (*[images] * 3, 2 * IMAGES))
        return Sets(real, generated, held_out, train, K)

    def with_images(self, given: Sets, images: np.ndarray) -> float:
        """Its value for ``images`` in place of the generated ones."""
        return float(self.number(Sets(given.real, images, given.held_out, given.train, K)))

    def reordered(self) -> Sets:
        if self.metric.draws_rows:
            raise NotApplicable("it draws rows by their position")
        given = self.given()
        train = None if given.train is None else given.train[::-1].copy()
        return Sets(given.real[::-1].copy(), given.generated[::-1].copy(), given.held_out[::-1].copy(), train, K)

    def minimum(self) -> None:
        images = self.metric.minimum(K)
        value = float(self.number(self.given(images)))
        require(math.isfinite(value), f"{value} for {images} images")

    def direction(self) -> None:
        import numpy as np

        given, state = self.given(), np.random.default_rng(1)
        assert given.train is not None
        flawed = {
            "noise": given.held_out + state.normal(0, 4, given.held_out.shape),
            "collapse": given.held_out[:1] + state.normal(0, 1e-3, given.held_out.shape),
            "copies": given.train[:IMAGES] + 1e-9,
        }
        bad = self.with_images(given, flawed[self.metric.worse_with])
        for words, images in (("held-out real images", given.held_out), ("the real images themselves", given.real)):
            good = self.with_images(given, images.copy())
            require(
                self.better(good, bad),
                f"{good:.4g} for {words}, {bad:.4g} with {self.metric.worse_with}; {self.metric.direction} is better",
            )

    def scored(self) -> None:
        import numpy as np

        from grasp_bench.metrics.protocol import Protocol
        from grasp_bench.metrics.scoring import LabelledFeatures, group_scores

        labels, given = np.arange(2 * IMAGES) % 2, self.given()
        assert given.train is not None
        real = LabelledFeatures(np.concatenate([given.real, given.held_out]), labels)
        fake = LabelledFeatures(given.generated, labels[:IMAGES])
        members = {"first": np.array([0]), "all": np.arange(2)}
        train = LabelledFeatures(given.train, labels)
        protocol = Protocol((self.metric,), draws=2, resamples=2)
        for score in group_scores(real, fake, ["a", "b"], members, protocol, train):
            if score.n >= self.metric.minimum(K):
                require(score.value is not None, f"no value for {score.scope} {score.name} of n = {score.n}")


class _Classifiers(_Subject):
    def given(self) -> Predictions:
        import numpy as np

        labels = np.arange(IMAGES) % CLASSES
        raw = np.random.default_rng(0).gamma(1, size=(IMAGES, CLASSES)) + np.eye(CLASSES)[labels]
        return Predictions(labels, raw / raw.sum(axis=1, keepdims=True))

    def finite(self) -> None:
        value = self.number(self.given())
        require(value.shape == (CLASSES,), f"an array of shape {value.shape}, expected ({CLASSES},)")
        super().finite()

    def reordered(self) -> Predictions:
        given = self.given()
        return Predictions(given.labels[::-1].copy(), given.probabilities[::-1].copy())

    def direction(self) -> None:
        import numpy as np

        given = self.given()
        random = np.random.default_rng(1).dirichlet([0.1] * CLASSES, IMAGES)
        good, bad = (float(self.number(each).sum()) for each in (given, Predictions(given.labels, random)))
        if self.metric.counts_classes:
            bad = float(self.number(Predictions(given.labels, np.roll(np.eye(CLASSES)[given.labels], 1, 1))).sum())
        require(
            self.better(good, bad), f"{good:.4g}, and {bad:.4g} for random classes; {self.metric.direction} is better"
        )

    def resamples(self) -> None:
        import numpy as np

        given = self.given()
        weights = np.random.default_rng(2).integers(0, 3, (2, IMAGES)).astype(np.float64)
        weights[1, given.labels == 0] = 0
        found = self.metric.weighted(Predictions(given.labels, given.probabilities, weights))
        expected = ClassifierMetric.weighted(self.metric, Predictions(given.labels, given.probabilities, weights))
        require(found.shape == (2, CLASSES), f"an array of shape {found.shape}, expected (2, {CLASSES})")
        require(bool(np.isnan(found[1, 0])), f"{found[1, 0]} for a class without images")
        require(
            np.allclose(found, expected, rtol=ROUNDING, equal_nan=True), f"{found}, and of repeated images {expected}"
        )


def _kind(metric: Metric) -> type[Metric]:
    return FeatureMetric if isinstance(metric, FeatureMetric) else ClassifierMetric
