"""The contract of a metric: one number for each group of classes, and what a reader must know of it.

A metric is a subclass of :class:`FeatureMetric`, a function of features of images, or of :class:`ClassifierMetric`, a
function of what a classifier predicts for real test images. The attributes are the only place where its name, direction
and texts stand: tables, the page's glossary, ``grasp-bench show`` and the documentation are made from them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

from grasp_bench.contracts.task import membership

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")


class Shared:
    """Base of what metrics are given: keeps what several of them compute alike."""

    found: dict[Callable[..., Any], Any]

    def once(self, function: Callable[[Self], T]) -> T:
        """``function`` of this object, computed when the first metric asks for it and kept for the others."""
        if function not in self.found:
            self.found[function] = function(self)
        result: T = self.found[function]
        return result


@dataclass(frozen=True, eq=False)
class Sets(Shared):
    """Features of one comparison: as many real images as generated ones, of the same classes. Not to be changed."""

    real: np.ndarray
    """Real images, float64 (n, d)."""
    generated: np.ndarray
    """Generated images (n, d); other real ones where the real reference is measured, resampled ones in a bootstrap."""
    held_out: np.ndarray
    """Real images (n, d), none of which is in ``real``."""
    train: np.ndarray | None = None
    """All training images of the classes (N, d); None where there are none."""
    k: int = 5
    """Neighbours behind every ball of nearest neighbours."""
    seed: int = 0
    """Seed of whatever a metric draws, by :func:`grasp_bench.seeds.rng`."""
    found: dict[Callable[..., Any], Any] = field(default_factory=dict, repr=False)
    strata: tuple[np.ndarray, np.ndarray] | None = None
    """Classes of the rows of ``real`` (n,) and ``generated`` (m,), each of equal weight, where a standard error is
    asked for; None elsewhere."""


@dataclass(frozen=True, eq=False)
class Predictions(Shared):
    """What one classifier predicts for real test images. Not to be changed."""

    labels: np.ndarray
    """Class indices (n,); of a task whose images may have several labels, which ones each has, bool (n, classes)."""
    probabilities: np.ndarray
    """Probabilities of every class (n, classes). Where images may have several labels, each label's is moved along its
    logarithmic odds so that 0.5 is the threshold that was chosen on validation images, which leaves ranks as they are.
    """
    weights: np.ndarray | None = None
    """How often each image is in each resample of a bootstrap (r, n); None for the images themselves."""
    found: dict[Callable[..., Any], Any] = field(default_factory=dict, repr=False)

    @property
    def classes(self) -> int:
        """Number of classes, with and without test images."""
        return int(self.probabilities.shape[1])

    @property
    def predicted(self) -> np.ndarray:
        """What is predicted, as ``labels`` are: the most probable class, or every label from its threshold on."""
        return self.probabilities.argmax(axis=1) if self.labels.ndim == 1 else self.probabilities >= 0.5


class Metric:
    """What every metric says of itself."""

    name: ClassVar[str]
    """Name of its entry point, and of its rows in tables of results."""
    version: ClassVar[str]
    """To be raised when values change: rows of another version are not compared with these; other metrics' are."""
    label: ClassVar[str]
    """Title in tables."""
    direction: ClassVar[Literal["lower", "higher"]]
    """Which way is better."""
    bounds: ClassVar[tuple[float, float]]
    """Least and largest value that it can take; infinite where there is none."""
    definition: ClassVar[str]
    """What it measures, in plain words: whole sentences."""
    misleads: ClassVar[str]
    """When a good value means less than it seems: whole sentences."""
    source: ClassVar[str]
    """Where it comes from: authors, venue and year."""
    family: ClassVar[str] = ""
    """Name under which several metrics can be asked for together."""
    position: ClassVar[int] = 1000
    """Place in tables: smaller numbers come first, equal ones in the order of names."""

    def value(self, given: Any) -> Any:
        """Its value; see the two kinds of metrics."""
        raise NotImplementedError


class FeatureMetric(Metric):
    """A metric of the features of generated images, beside real ones.

    It is measured for every group and class at equal counts, in several draws of images, and for held-out real images
    in place of the generated ones, which gives the real reference.
    """

    optional: ClassVar[bool] = False
    """Whether it is measured only where it is asked for by name, and never in a run."""
    uses_train: ClassVar[bool] = False
    """Whether it looks at training images."""
    train_minimum: ClassVar[int] = 0
    """Training images of a class that it needs; 0 where it has a value without any."""
    uses_directions: ClassVar[bool] = False
    """Whether it divides features by their length, so that a row of zeros has no value."""
    resampled: ClassVar[bool] = True
    """Whether leaving units out gives it an interval: False where it counts different images, which are then fewer."""
    conventional: ClassVar[bool] = False
    """Whether tasks that ask for it measure it over the whole test set, too, as papers do, without equal counts."""
    worse_with: ClassVar[Literal["noise", "collapse", "copies"]] = "noise"
    """Flaw of generated images that makes its value worse: noise, lost variety, or copies of training images."""
    draws_rows: ClassVar[bool] = False
    """Whether it draws generated rows by their position, so that their order matters as another seed does."""
    names_extractor: ClassVar[bool] = False
    """Whether the title names the extractor in parentheses, since values of two extractors have two scales."""
    inception_label: ClassVar[str] = ""
    """Title in the features of Inception with the weights of 2015, where it is another."""

    @abstractmethod
    def value(self, given: Sets) -> float | None:
        """Its value for ``given.generated``; None where it has none, for want of training images for instance.

        It must not depend on the order of rows beyond rounding. What it shares with other metrics goes through
        :meth:`Shared.once`.
        """
        raise NotImplementedError

    def minimum(self, k: int) -> int:
        """Images of each kind that it needs, where balls reach to the ``k``-th neighbour."""
        return 2

    def interval(self, given: Sets) -> tuple[float, float] | None:
        """Ends of a 95 % interval that the metric knows by itself, if it does."""
        return None

    def standard_error(self, given: Sets, key: tuple[str | int, ...]) -> float | None:
        """Standard error of the value if it were of all of ``given``, if the metric knows it.

        Given are all images of a group, of which draws take equally many of every class (``given.strata``), and fewer
        generated than real ones or more. What the metric draws is keyed by ``key``.
        """
        return None

    @classmethod
    def title(cls, extractor: str = "", inception: bool = False) -> str:
        """Its title in features of ``extractor``; ``inception``: whether it has the weights of 2015."""
        if inception and cls.inception_label:
            return cls.inception_label
        return f"{cls.label}({extractor})" if cls.names_extractor and extractor else cls.label


class ClassifierMetric(Metric):
    """A metric of a classifier, from what it predicts for real test images.

    A group's value is the mean over those of its classes that have test images, and over several classifiers. Classes
    without test images are left out of whatever is returned.
    """

    counts_classes: ClassVar[bool] = False
    """Whether a group's value is the sum over its classes rather than the mean, and no class has one by itself."""
    of_sets: ClassVar[bool] = False
    """Whether it is defined where images may have several labels; it is left out of runs of such tasks otherwise."""

    @abstractmethod
    def value(self, given: Predictions) -> np.ndarray:
        """Values of all classes (classes,); those of classes without test images are not looked at."""
        raise NotImplementedError

    def weighted(self, given: Predictions) -> np.ndarray:
        """Values of all classes in every resample (r, classes), with images counted ``given.weights`` times.

        NaN where a resample holds no image of the class. By default :meth:`value` of the repeated images; a metric that
        is slow then computes all resamples at once.
        """
        import numpy as np

        assert given.weights is not None  # it is called for resamples alone
        found = []
        for weights in given.weights.astype(np.int64):
            rows = np.repeat(np.arange(len(weights)), weights)
            values = self.value(Predictions(given.labels[rows], given.probabilities[rows]))
            present = membership(given.labels[rows], given.classes).any(axis=0)
            found.append(np.where(present, values, np.nan))
        return np.stack(found)
