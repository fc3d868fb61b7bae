"""What ``grasp-bench score`` found, with all that a reader must know of how."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from grasp_bench import __version__
from grasp_bench.cli.score_input import Source, draw_keys, indices_of, units_of
from grasp_bench.contracts.progress import Progress
from grasp_bench.data.features import FeatureSet
from grasp_bench.data.labels import some
from grasp_bench.errors import UserError
from grasp_bench.extractors.inception import is_fid
from grasp_bench.metrics.memorisation import near_duplicates
from grasp_bench.metrics.protocol import Protocol
from grasp_bench.metrics.score import Score
from grasp_bench.metrics.scoring import LabelledFeatures, group_scores
from grasp_bench.results.scores import ScoreReport

ROLES = ("real", "fake", "train")


@dataclass(frozen=True)
class Comparison:
    """What is compared, and how."""

    sources: list[Source]
    """Real, generated and, if given, training images."""
    sets: list[FeatureSet]
    """Their features."""
    names: list[str]
    """Of the classes."""
    members: dict[str, np.ndarray]
    """Group → indices of its classes."""
    protocol: Protocol
    identity: dict[str, str] | None
    """Of the extractor, where it is known."""
    cluster_by: str | None
    near: float
    """Largest ratio of a near duplicate."""


def compare(comparison: Comparison, progress: Progress) -> ScoreReport:
    """Score every group and class. Raises :class:`UserError` for features that a metric is not defined for."""
    sources, names, protocol, cluster_by = (
        comparison.sources,
        comparison.names,
        comparison.protocol,
        comparison.cluster_by,
    )
    units: list[np.ndarray | None] = units_of(sources[:2], cluster_by) if cluster_by else [None, None]
    if "vendi" in protocol.metrics:
        _check_directions(comparison)
    data = [
        LabelledFeatures(found.features, indices_of(source, names), draw_keys(source, found.features), unit)
        for source, found, unit in zip(sources, comparison.sets, [*units, None], strict=False)
    ]
    train = data[2] if len(data) > 2 else None
    with progress.task("score", len(comparison.members) + (len(names) if len(names) > 1 else 0)) as advance:
        scores = group_scores(data[0], data[1], names, comparison.members, protocol, train, advance)
    identity = comparison.identity
    fid = identity is not None and {"extractor", "weights"} <= identity.keys() and is_fid(identity)
    suffix = f"({identity.get('extractor', '?')})" if identity else ""
    copies = _copies(comparison) if "authenticity" in protocol.metrics else []
    return ScoreReport(
        facts=_facts(comparison, scores[0].n),
        scores=scores,
        scores_names=protocol.scores,
        notes=_notes(comparison, scores, copies),
        distance="FID" if fid else f"FD{suffix}",
        kernel="KID" if fid else f"KD{suffix}",
        units=("image" if units[0] is None else str(cluster_by), "image" if units[1] is None else str(cluster_by)),
        copies=copies,
    )


def _check_directions(comparison: Comparison) -> None:
    """Raise :class:`UserError` for features that are all zero, which have no cosine."""
    for source, found in zip(comparison.sources[:2], comparison.sets, strict=False):
        zero = [name for name, row in zip(source.ids, found.features, strict=True) if not row.any()]
        if zero:
            raise UserError(
                f"{source}: the features of {some(zero)} are all zero, so the Vendi score has no angle to them. "
                "Leave vendi out of --metrics, or look at these images."
            )


def _copies(comparison: Comparison) -> list[dict[str, Any]]:
    """Generated images that equal a training image, or nearly do, by name, the nearest first."""
    found = near_duplicates(comparison.sets[2].features, comparison.sets[1].features, comparison.near)
    return [
        {
            "fake": comparison.sources[1].ids[fake],
            "train": comparison.sources[2].ids[train],
            "distance": float(distance),
            "ratio": float(ratio),
        }
        for fake, train, distance, ratio in zip(found.fake, found.train, found.distance, found.ratio, strict=True)
    ]


def _facts(comparison: Comparison, n: int) -> dict[str, Any]:
    protocol = comparison.protocol
    sets = {
        role: {"path": str(source.path), "images": len(source.ids), "ignored_files": source.ignored}
        for role, source in zip(ROLES, comparison.sources, strict=False)
    }
    return {
        "version": __version__,
        "extractor": comparison.identity,
        "n": n,
        "seed": protocol.seed,
        "protocol": {
            **asdict(protocol),
            "n_equal": protocol.n or "auto",
            "cluster_by": comparison.cluster_by,
            "near": comparison.near,
            "n": n,
        },
        **sets,
        "groups": {group: [comparison.names[i] for i in classes] for group, classes in comparison.members.items()},
    }


def _notes(comparison: Comparison, scores: list[Score], copies: list[dict[str, Any]]) -> list[str]:
    protocol, n = comparison.protocol, scores[0].n
    notes = [
        f"Each score is the mean over {protocol.draws} draws (seed {protocol.seed}) of n = {n} generated images "
        "against n real ones, spread evenly over the classes; floor: n held-out real images, of the other half of "
        "REAL, in place of the generated ones; excess: value - floor. Numbers at different n do not compare.",
        *_class_notes(protocol, [score for score in scores if score.kind == "class"]),
    ]
    if "fd_inf" in protocol.metrics:
        notes.append("FD∞ is extrapolated to endless generation alone: what the number of real images adds stays in.")
    if "kid" in protocol.metrics:
        notes.append("± is the standard error for the images of one draw (delete-half jackknife).")
    if "irs" in protocol.metrics:
        of = "all training images of the classes" if len(comparison.sources) > 2 else "the n real images of a draw"
        notes.append(
            f"IRS: share of {of} that endless generation would reach (irs_inf); adjusted: over that of as many "
            "held-out real images; its own interval knows of no error but that of drawing."
        )
    if protocol.resamples:
        notes.append(
            f"Bootstrap: {protocol.resamples} resamples of the units of the first draw, moved so that their mean is "
            "the value, since repeated images bias a score; IRS, which counts different images, has none. Classes "
            "are resampled each by itself, and the choice of the worst is not."
        )
    for source in comparison.sources:
        if source.ignored:
            notes.append(
                f"{source}: {len(source.ignored)} files are no images and were ignored: {some(source.ignored)}."
            )
    for source, found in zip(comparison.sources, comparison.sets, strict=True):
        if (found.features == found.features[0]).all():
            notes.append(f"{source}: all {len(found.features)} images have the same features.")
    if copies:
        pairs = some(f"{pair['fake']} ~ {pair['train']} ({pair['ratio']:.2g})" for pair in copies)
        notes.append(
            f"{len(copies)} generated images are at most {comparison.near:g} times as far from a training image as "
            f"that is from the next one (at 0 they have the very same features): {pairs}."
        )
    identity = comparison.identity
    told = ", ".join(f"{key} {value}" for key, value in identity.items()) if identity else "not said by the files"
    return [*notes, f"Features: {told}. grasp-bench {__version__}."]


def _class_notes(protocol: Protocol, classes: list[Score]) -> list[str]:
    notes = []
    if scored := sorted({score.n for score in classes if score.value is not None}):
        notes.append(
            f"Classes are scored at n = {scored[0]}, all that have enough alike; the worst is the one whose excess is "
            "furthest on the wrong side."
        )
    few = [score for score in classes if score.value is None]
    if small := list(dict.fromkeys(f"{score.name} (n={score.n})" for score in few if score.metric != "authenticity")):
        notes.append(f"n too small to be scored alone (at least {protocol.least} of each kind): {some(small)}.")
    return notes
