"""What ``grasp-bench score`` found, with all that a reader must know of how."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from grasp_bench.cli.score_input import Source, draw_keys, indices_of, units_of
from grasp_bench.contracts.progress import Progress
from grasp_bench.data.features import FeatureSet
from grasp_bench.data.labels import some
from grasp_bench.errors import UserError
from grasp_bench.extractors.inception import is_fid
from grasp_bench.metrics.measured import Measured
from grasp_bench.metrics.memorisation import near_duplicates
from grasp_bench.metrics.protocol import Protocol
from grasp_bench.metrics.scoring import LabelledFeatures, group_scores
from grasp_bench.results.scores import ScoreReport
from grasp_bench.version import VERSION


@dataclass(frozen=True)
class Comparison:
    """What is compared, and how."""

    sources: list[Source]
    """Real, generated and, if given, training images."""
    sets: list[FeatureSet]
    """Features of the sources."""
    names: list[str]
    """Names of the classes."""
    members: dict[str, np.ndarray]
    """Group → indices of its classes."""
    protocol: Protocol
    identity: dict[str, str] | None
    """What the extractor is, where it is known."""
    cluster_by: str | None
    near: float | None
    """Largest ratio of a near duplicate; None where none are looked for."""


def compare(comparison: Comparison, progress: Progress) -> ScoreReport:
    """Score every group and class. Raises :class:`UserError` for features that a metric is not defined for."""
    sources, names, protocol = comparison.sources, comparison.names, comparison.protocol
    cluster_by, identity = comparison.cluster_by, comparison.identity or {}
    units: list[np.ndarray | None] = units_of(sources[:2], cluster_by) if cluster_by else [None, None]
    _check_directions(comparison)
    data = [
        LabelledFeatures(found.features, indices_of(source, names), draw_keys(source, found.features), unit)
        for source, found, unit in zip(sources, comparison.sets, [*units, None], strict=False)
    ]
    train = data[2] if len(data) > 2 else None
    with progress.task("score", len(comparison.members) + (len(names) if len(names) > 1 else 0)) as advance:
        scores = group_scores(data[0], data[1], names, comparison.members, protocol, train, advance)
    copies = _copies(comparison, comparison.near) if comparison.near is not None else []
    return ScoreReport(
        facts=_facts(comparison, scores[0].n),
        scores=scores,
        notes=list(_notes(comparison, scores, copies)),
        extractor=identity.get("extractor", "?") if identity else "",
        inception=is_fid(identity),
        units=("image" if units[0] is None else str(cluster_by), "image" if units[1] is None else str(cluster_by)),
        copies=copies,
    )


def _check_directions(comparison: Comparison) -> None:
    """Raise :class:`UserError` for features that are all zero, where a metric needs their direction."""
    needing = [metric.name for metric in comparison.protocol.metrics if metric.uses_directions]
    for source, found in zip(comparison.sources[:2], comparison.sets, strict=False) if needing else ():
        zero = [name for name, row in zip(source.ids, found.features, strict=True) if not row.any()]
        if zero:
            raise UserError(
                f"{source}: the features of {some(zero)} are all zero, so they have no direction, which "
                f"{', '.join(needing)} needs. Leave it out of --metrics, or look at these images."
            )


def _copies(comparison: Comparison, near: float) -> list[dict[str, Any]]:
    """Generated images that equal a training image, or nearly do, by name, the nearest first."""
    found = near_duplicates(comparison.sets[2].features, comparison.sets[1].features, near)
    _, fake_ids, train_ids = (source.ids for source in comparison.sources)
    return [
        {"fake": fake_ids[fake], "train": train_ids[train], "distance": float(distance), "ratio": float(ratio)}
        for fake, train, distance, ratio in zip(found.fake, found.train, found.distance, found.ratio, strict=True)
    ]


def _facts(comparison: Comparison, n: int) -> dict[str, Any]:
    protocol = comparison.protocol
    sets = {
        role: {"path": str(source.path), "images": len(source.ids), "ignored_files": source.ignored}
        for role, source in zip(("real", "fake", "train"), comparison.sources, strict=False)
    }
    return {
        "version": VERSION,
        "extractor": comparison.identity,
        "n": n,
        "seed": protocol.seed,
        "protocol": {
            **vars(protocol),
            "metrics": [metric.name for metric in protocol.metrics],
            "n_equal": protocol.n or "auto",
            "cluster_by": comparison.cluster_by,
            "near": comparison.near,
            "n": n,
        },
        **sets,
        "groups": {group: [comparison.names[i] for i in classes] for group, classes in comparison.members.items()},
    }


def _notes(comparison: Comparison, scores: list[Measured], copies: list[dict[str, Any]]) -> Iterator[str]:
    protocol, sources, n = comparison.protocol, comparison.sources, scores[0].n
    yield (
        f"Each score is the mean over {protocol.draws} draws (seed {protocol.seed}) of n = {n} generated images "
        "against n real ones, spread evenly over the classes; real reference: n held-out real images, of the other "
        "half of REAL, in place of the generated ones; excess: value - real reference. Numbers at "
        "different n do not compare."
    )
    yield from _class_notes(protocol, [score for score in scores if score.scope == "class"])
    if any(score.standard_error is not None for score in scores):
        yield "± is the standard error for the images of one draw (delete-half jackknife)."
    if any(score.exact for score in scores):
        of = "all training images of the classes" if len(sources) > 2 else "the n real images of a draw"
        yield f"IRS is of {of}; a score's own interval accounts for drawing alone."
    if protocol.resamples:
        yield (
            f"Bootstrap: {protocol.resamples} resamples of the units of the first draw, moved so that their mean is "
            "the value, since repeated images bias a score; IRS, which counts different images, has none. Classes "
            "are resampled each by itself, and the choice of the worst is not."
        )
    for source, found in zip(sources, comparison.sets, strict=True):
        if source.ignored:
            yield f"{source}: {len(source.ignored)} files are no images and were ignored: {some(source.ignored)}."
        if (found.features == found.features[0]).all():
            yield f"{source}: all {len(found.features)} images have the same features."
    if copies:
        pairs = some(f"{pair['fake']} ~ {pair['train']} ({pair['ratio']:.2g})" for pair in copies)
        yield (
            f"{len(copies)} generated images are at most {comparison.near:g} times as far from a training image as "
            f"that is from the next one (at 0 they have the very same features): {pairs}."
        )
    told = ", ".join(f"{key} {value}" for key, value in (comparison.identity or {}).items())
    yield f"Features: {told or 'not said by the files'}. grasp-bench {VERSION}."


def _class_notes(protocol: Protocol, classes: list[Measured]) -> Iterator[str]:
    if scored := {score.n for score in classes if score.value is not None}:
        yield (
            f"Classes are scored at n = {min(scored)}, all that have enough alike; the worst is the one whose excess "
            "is furthest on the wrong side."
        )
    few = [score for score in classes if score.value is None and not score.metric.train_minimum]
    if small := list(dict.fromkeys(f"{score.name} (n={score.n})" for score in few)):
        yield f"n too small to be scored alone (at least {protocol.least} of each kind): {some(small)}."
