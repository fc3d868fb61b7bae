"""What ``grasp-bench score`` found, as tables and as JSON, with all that a reader must know of how."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import numpy as np

from grasp_bench.cli.score_input import Source, draw_keys, indices_of, units_of
from grasp_bench.contracts.metric import FeatureMetric
from grasp_bench.contracts.progress import Progress
from grasp_bench.data.features import FeatureSet
from grasp_bench.data.labels import look_alikes
from grasp_bench.errors import UserError
from grasp_bench.extractors.inception import is_fid
from grasp_bench.metrics.labelled import LabelledFeatures
from grasp_bench.metrics.memorisation import near_duplicates
from grasp_bench.metrics.protocol import Measured, Protocol
from grasp_bench.metrics.scoring import group_scores
from grasp_bench.results.grids import ABSENT, BESIDE, REFERENCE, Grid, Section, Text
from grasp_bench.text import counted, some
from grasp_bench.version import VERSION

ENDS = ("low", "high")
"""Percentiles over draws, which are no interval of the value: ``spread`` says how far draws are apart."""
PARTS = {"distances": "lower", "fidelity, diversity, copies": "higher"}
"""Tables, since all metrics together are too wide for a terminal → direction of their metrics."""


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
    identity: dict[str, str]
    """What the extractor is; empty where it is not known."""
    cluster_by: str | None
    near: float | None
    """Largest ratio of a near duplicate; None where none are looked for."""

    def title(self, metric: FeatureMetric) -> str:
        """What a metric is called in the features of this extractor."""
        return metric.title(self.identity.get("extractor", "?") if self.identity else "", is_fid(self.identity))


def compare(comparison: Comparison, per_class: bool, progress: Progress) -> tuple[Section, dict[str, Any]]:
    """Score every group and class: the tables, and what goes into the JSON.

    In the JSON, the scores of a row of the tables are consecutive ``rows`` of the same scope and name. Raises
    :class:`UserError` for features that a metric is not defined for.
    """
    sources, names, protocol, by = comparison.sources, comparison.names, comparison.protocol, comparison.cluster_by
    units: list[np.ndarray | None] = units_of(sources[:2], by) if by else [None, None]
    _check_directions(comparison)
    data = [
        LabelledFeatures(found.features, indices_of(source, names), draw_keys(source, found.features), unit)
        for source, found, unit in zip(sources, comparison.sets, [*units, None], strict=False)
    ]
    train = data[2] if len(data) > 2 else None
    with progress.task("score", len(comparison.members) + (len(names) if len(names) > 1 else 0)) as advance:
        scores = group_scores(data[0], data[1], names, comparison.members, protocol, train, advance)
    copies = _copies(comparison, comparison.near) if comparison.near is not None else []
    notes = list(_notes(comparison, scores, copies))
    real_unit, fake_unit = ("image" if unit is None else str(by) for unit in units)
    rows = [_json_row(score, comparison) for score in scores]
    for row in rows:
        if row["bootstrap"]:
            row["bootstrap"] |= {"real_unit": real_unit, "fake_unit": fake_unit}
    payload = {**_facts(comparison, scores[0].n), "rows": rows, "copies": copies, "notes": notes}
    groups, classes = ([each for each in scores if (each.scope == "class") is alone] for alone in (False, True))
    shown = [each for each in (scores if per_class else groups) if each.scope == "group" or each.bootstrap]
    grids = [*_grids("groups", groups, comparison), _intervals(shown, comparison, real_unit, fake_unit)]
    if per_class and classes:
        grids += _grids("classes", classes, comparison)
    worst: dict[str, list[str]] = {}
    for score in scores:
        if score.worst is not None:
            worst.setdefault(score.name, []).append(f"{comparison.title(score.metric)} {score.worst}")
    if worst:
        groups_told = "; ".join(f"{group}: {', '.join(each)}" for group, each in worst.items())
        notes = [f"Worst classes: {groups_told}.", *notes]
    return Section(f"{sources[1]} against {sources[0]}", grids, notes), payload


def number(value: float | None) -> str:
    """Three decimals, fewer for large numbers, and powers of ten for small ones."""
    if value is None:
        return ABSENT
    size = abs(value)
    if size == 0:
        return "0"
    return f"{value:.1e}" if size < 1e-3 else f"{value:.{3 if size < 10 else 2 if size < 100 else 1}f}"


def _too_small(score: Measured) -> str:
    return f"n too small (n={score.n})"


def _json_row(score: Measured, comparison: Comparison) -> dict[str, Any]:
    metric = score.metric
    told = {name: value for name, value in asdict(score).items() if name not in ENDS}
    return told | {
        "metric": metric.name,
        "metric_version": metric.version,
        "label": comparison.title(metric),
        "excess": score.excess,
        "reason": _too_small(score) if score.value is None else None,
    }


def _grids(title: str, scores: Sequence[Measured], comparison: Comparison) -> list[Grid]:
    """A row for each group or class; real references stand beside distances, and below other scores."""
    rows = [list(row) for _, row in groupby(scores, lambda score: (score.scope, score.name))]
    grids = []
    for part, direction in PARTS.items():
        beside, columns = direction == "lower", ["", "n"]
        for metric in (score.metric for score in rows[0] if score.metric.direction == direction):
            known = any(score.standard_error is not None for score in scores if score.metric is metric)
            columns.append(comparison.title(metric) + " ± se" * known)
            columns += BESIDE if beside else ()
        lines: list[list[str]] = []
        for row in rows:
            if row[0].value is None:
                lines.append([f"{_row_name(row[0])} {_too_small(row[0])}", *[""] * (len(columns) - 1)])
                continue
            cells, below = [_row_name(row[0]), str(row[0].n)], [f"  {REFERENCE}", ""]
            for score in (score for score in row if score.metric.direction == direction):
                error = "" if score.standard_error is None else f" ± {number(score.standard_error)}"
                cells.append(number(score.value) + error)
                (cells if beside else below).append(number(score.reference))
                cells += [number(score.excess)] if beside else []
            lines += [cells] if beside else [cells, below]
        if len(columns) > 2:
            grids.append(Grid(f"{title}: {part}", tuple(columns), [list(map(Text, line)) for line in lines]))
    return grids


def _row_name(score: Measured) -> str:
    if score.scope == "class mean":
        return f"  mean of {score.classes_scored} of {score.classes} classes"
    return "  worst class" if score.scope == "worst class" else score.name


def _intervals(shown: Sequence[Measured], comparison: Comparison, real_unit: str, fake_unit: str) -> Grid:
    columns, resampled = ["group", "score", "value", "spread over draws"], any(score.bootstrap for score in shown)
    columns += ["95 % interval", f"units ({real_unit}, {fake_unit})"] * resampled
    rows = []
    for score in shown:
        name = score.name if score.scope in ("group", "class") else f"{score.name}, {score.scope}"
        cells = [name, comparison.title(score.metric), number(score.value), number(score.spread)]
        if (found := score.bootstrap) is not None:
            cells.append(found.reason or f"{number(found.low)} to {number(found.high)}")
            cells.append(f"{found.real_units}, {found.fake_units}")
        rows.append([Text(cell) for cell in [*cells, *[""] * (len(columns) - len(cells))]])
    return Grid("intervals" if resampled else "spread over draws", tuple(columns), rows, names=len(columns))


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
    described = {
        "metrics": [metric.name for metric in protocol.metrics],
        "n_equal": protocol.n or "auto",
        "cluster_by": comparison.cluster_by,
        "near": comparison.near,
        "n": n,
    }
    return {
        "version": VERSION,
        "extractor": comparison.identity or None,
        "n": n,
        "seed": protocol.seed,
        "protocol": {**vars(protocol), **described},
        **{
            role: {"path": str(source.path), "images": len(source.ids), "ignored_files": source.ignored}
            for role, source in zip(("real", "fake", "train"), comparison.sources, strict=False)
        },
        "groups": {group: [comparison.names[i] for i in classes] for group, classes in comparison.members.items()},
    }


def _notes(comparison: Comparison, scores: Sequence[Measured], copies: Sequence[dict[str, Any]]) -> Iterator[str]:
    protocol, sources, n = comparison.protocol, comparison.sources, scores[0].n
    yield (
        f"Each score is the mean over {protocol.draws} draws (seed {protocol.seed}) of n = {n} generated images "
        "against n real ones, spread evenly over the classes; real reference: n held-out real images, of the other "
        "half of REAL, in place of the generated ones; excess: value - real reference. Numbers at "
        "different n do not compare."
    )
    classes = [score for score in scores if score.scope == "class"]
    if scored := {score.n for score in classes if score.value is not None}:
        yield (
            f"Classes are scored at n = {min(scored)}, all that have enough alike; the worst is the one whose excess "
            "is furthest on the wrong side."
        )
    few = [score for score in classes if score.value is None and not score.metric.train_minimum]
    if small := list(dict.fromkeys(f"{score.name} (n={score.n})" for score in few)):
        yield f"n too small to be scored alone (at least {protocol.least} of each kind): {some(small)}."
    yield "Spread over draws: standard deviation of the draws, which share most images: no interval of anything."
    if any(score.standard_error is not None for score in scores):
        yield (
            "± is the standard error of the mean over draws, for other images of the same kind (as a U-statistic); "
            "twice as much is no 95 % interval."
        )
    if any(score.exact for score in scores):
        of = "all training images of the classes" if len(sources) > 2 else "the n real images of a draw"
        yield f"IRS is of {of}."
    if protocol.resamples:
        yield (
            f"95 % interval: of the mean over draws, for other units of the same kind; a jackknife of "
            f"{protocol.resamples} resamples, each without a fifth of the units of one set, and Student's t with "
            "effective degrees of freedom. IRS and its adjusted form have none. Classes are resampled each by itself, "
            "and the choice of the worst is not."
        )
    for source, found in zip(sources, comparison.sets, strict=True):
        for reason, names in source.ignored.items():
            yield f"{source}: {counted(len(names), 'file')} ignored, {reason}: {some(names)}."
        if alike := look_alikes(source.labels or ()):
            yield f"{source}: class names that differ in their Unicode normal form alone: {some(alike)}."
        if (found.features == found.features[0]).all():
            yield f"{source}: all {len(found.features)} images have the same features."
    if copies:
        pairs = some(f"{pair['fake']} ~ {pair['train']} ({pair['ratio']:.2g})" for pair in copies)
        yield (
            f"{len(copies)} generated images are at most {comparison.near:g} times as far from a training image as "
            f"that is from the next one (at 0 they have the very same features): {pairs}."
        )
    told = ", ".join(f"{key} {value}" for key, value in comparison.identity.items())
    yield f"Features: {told or 'not said by the files'}. grasp-bench {VERSION}."
