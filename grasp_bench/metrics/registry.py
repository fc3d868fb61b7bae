"""The metrics that are installed, in the order of tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from grasp_bench import plugins
from grasp_bench.contracts.metric import ClassifierMetric, FeatureMetric, Metric
from grasp_bench.errors import UserError, did_you_mean

FIRST = frozenset(
    {
        *("fd", "kid", "precision", "recall", "density", "coverage", "vendi", "irs", "irs_adjusted", "authenticity"),
        *("accuracy", "f1", "nonzero_f1", "auroc", "average_precision"),
    }
)
"""Metrics, in their version "1", that every run had before metrics were plugins: its stages do not name them."""


def feature_metrics(only: Collection[str] | None = None) -> tuple[FeatureMetric, ...]:
    """The metrics that a run is scored by, from features: all but optional ones, or those among the names ``only``."""
    return tuple(each for each in _of_features() if (not each.optional if only is None else each.name in only))


def classifier_metrics(only: Collection[str] | None = None) -> tuple[ClassifierMetric, ...]:
    """The metrics that a run is scored by, from what classifiers predict: all, or those among the names ``only``."""
    found = [each for each in _installed() if isinstance(each, ClassifierMetric)]
    return tuple(each for each in found if only is None or each.name in only)


def chosen(names: Iterable[str]) -> tuple[FeatureMetric, ...]:
    """The metrics of features with these names, or of families with these names, each once and in their order.

    Raises :class:`UserError` for a name that is neither.
    """
    known = _of_features()
    found: dict[str, FeatureMetric] = {}
    for name in names:
        asked = [each for each in known if name in (each.name, each.family)]
        if not asked:
            there = list(dict.fromkeys(name for each in known for name in (each.name, each.family) if name))
            raise UserError(f"unknown metric {name!r}.{did_you_mean(name, there)} There are: {', '.join(there)}.")
        found |= {each.name: each for each in asked}
    return tuple(found.values())


def installed_versions() -> dict[str, str]:
    """Name → version of the metrics that a run is scored by."""
    return {each.name: each.version for each in (*feature_metrics(), *classifier_metrics())}


def beyond_the_first(versions: Mapping[str, str], multilabel: bool) -> dict[str, str]:
    """The ``versions`` (name → version) that are not of :data:`FIRST`, and "absent" for those of it that are gone.

    Where images may have several labels, metrics of one label each are left out: they score nothing, so that a record
    does not name them.
    """
    first = dict.fromkeys(FIRST, "1")
    of_one = {each.name for each in classifier_metrics() if not each.of_sets} if multilabel else set()
    return {
        name: versions.get(name, "absent")
        for name in sorted((versions.keys() | first.keys()) - of_one)
        if versions.get(name) != first.get(name)
    }


def _of_features() -> list[FeatureMetric]:
    return [each for each in _installed() if isinstance(each, FeatureMetric)]


def _installed() -> list[Metric]:
    found: list[Metric] = [each() for each in plugins.available("metrics").values()]
    return sorted(found, key=lambda each: (each.position, each.name))
