"""``grasp-bench score``: generated images against real ones, for each group of classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grasp_bench.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import numpy as np

    from grasp_bench.cli.score_input import Source
    from grasp_bench.data.features import FeatureSet
    from grasp_bench.metrics.scoring import Protocol
    from grasp_bench.report.scores import ScoreReport

DEFAULT = ("fd", "kid", "prdc", "vendi", "irs")
ALL = "all"


def score(
    real: Annotated[Path, typer.Argument(metavar="REAL", help="Real images: a folder, .npz, or .safetensors.")],
    fake: Annotated[Path, typer.Argument(metavar="FAKE", help="Generated images, likewise.")],
    extractor: Annotated[
        str | None, typer.Option(help="See `grasp-bench list extractors`; for images inception if absent.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="The extractor's weights.")] = None,
    labels: Annotated[Path | None, typer.Option(help="CSV (id,label) for all sets; an id must be of one only.")] = None,
    real_labels: Annotated[Path | None, typer.Option(help="CSV (id,label) for REAL.")] = None,
    fake_labels: Annotated[Path | None, typer.Option(help="CSV (id,label) for FAKE.")] = None,
    groups: Annotated[Path | None, typer.Option(help="CSV (class,group).")] = None,
    head_above: Annotated[int | None, typer.Option(min=0, help="Head: classes of more REAL images.")] = None,
    tail_below: Annotated[int | None, typer.Option(min=0, help="Tail: classes of fewer REAL images.")] = None,
    train: Annotated[
        Path | None, typer.Option(help="Training images, for IRS and authenticity; else IRS is of half of REAL.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help=f"{','.join(DEFAULT)} and, with --train, authenticity; all if absent.")
    ] = None,
    n_equal: Annotated[str, typer.Option(metavar="auto|N", help="Images of each kind for every group.")] = "auto",
    draws: Annotated[int, typer.Option(min=1, help="Equal-count draws.")] = 20,
    k: Annotated[int, typer.Option(min=1, help="Neighbours behind precision, recall, density and coverage.")] = 5,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples of images, or of clusters; 0 for none.")] = 0,
    cluster_by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Of a labels file: resample these units, such as patient_id.")
    ] = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="Print a row for every class, too.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of draws and resamples.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Images extracted at a time; changes no score.")] = 64,
    device: Annotated[str, typer.Option(help="For the extractor: auto, cpu, cuda or cuda:N.")] = "cpu",
    cache_dir: Annotated[Path, typer.Option(help="Where extracted features are kept.")] = Path(".grasp-bench/features"),
    json_path: Annotated[Path | None, typer.Option("--json", help="Write everything here.")] = None,
    features_out: Annotated[
        Path | None, typer.Option(help="f.safetensors: write f.real.safetensors and f.fake.safetensors.")
    ] = None,
) -> None:
    """Score FAKE against REAL: every group at equal counts, beside what held-out real images score."""
    from grasp_bench.cli.output import console
    from grasp_bench.io import write_json
    from grasp_bench.metrics.scoring import Protocol
    from grasp_bench.report.scores import json_payload, rich_report

    chosen = _metrics(metrics, train is not None)
    protocol = Protocol(chosen, _count(n_equal), draws, k, bootstrap, seed)
    if cluster_by and not bootstrap:
        raise UserError(f"--cluster-by {cluster_by}: there is nothing to resample without --bootstrap N, such as 1000.")
    if features_out and features_out.suffix != ".safetensors":
        raise UserError(f"--features-out {features_out}: expected a name that ends in .safetensors.")
    sources = _open(real, fake, train, labels, real_labels, fake_labels)
    if all(each.images is None for each in sources) and (extractor or weights):
        option = "--extractor" if extractor else "--weights"
        raise UserError(f"{option}: {real} and {fake} hold features, not images: nothing is extracted. Leave it out.")
    names, members = _classes(sources, groups, head_above, tail_below, per_class)
    _check_counts(sources, names, members, protocol)
    sets, identity = _features(sources, extractor or "inception", weights, device, cache_dir, batch_size)
    if features_out:
        _write_features(features_out, sets)
    report = _report(sources, sets, names, members, protocol, identity, cluster_by)
    console().print(rich_report(report, per_class))
    if json_path:
        write_json(json_path, json_payload(report))


def _metrics(asked: str | None, trained: bool) -> tuple[str, ...]:
    from grasp_bench.metrics.scoring import METRICS

    if asked is None:
        return (*DEFAULT, "authenticity") if trained else DEFAULT
    chosen = tuple(dict.fromkeys(name.strip() for name in asked.split(",")))
    for name in chosen:
        if name not in METRICS:
            raise UserError(
                f"--metrics: unknown metric {name!r}.{did_you_mean(name, METRICS)} There are: {', '.join(METRICS)}."
            )
    if "authenticity" in chosen and not trained:
        raise UserError("--metrics authenticity: whether images are copies shows beside the training images: --train.")
    if trained and not {"irs", "authenticity"} & set(chosen):
        raise UserError("--train: none of the --metrics looks at training images. Add irs or authenticity.")
    return chosen


def _count(n_equal: str) -> int | None:
    if n_equal == "auto":
        return None
    if not n_equal.isdecimal() or int(n_equal) < 2:
        raise UserError(f"--n-equal {n_equal}: expected auto or a number of images from 2.")
    return int(n_equal)


def _open(
    real: Path, fake: Path, train: Path | None, labels: Path | None, real_labels: Path | None, fake_labels: Path | None
) -> list[Source]:
    from grasp_bench.cli.score_input import open_source, share_labels

    if labels and (real_labels or fake_labels):
        raise UserError("--labels is for all sets, --real-labels and --fake-labels for one each. Give either.")
    sources = [open_source("REAL", real, real_labels), open_source("FAKE", fake, fake_labels)]
    opened = open_source("--train", train, None) if train else None
    if labels:
        # training images with class sub-folders need no rows of their own
        shared = [*sources, opened] if opened and opened.labels is None else sources
        sources = share_labels(labels, shared)
        if opened and opened.labels is None:
            return sources
    return [*sources, opened] if opened else sources


def _classes(
    sources: list[Source], groups: Path | None, head_above: int | None, tail_below: int | None, per_class: bool
) -> tuple[list[str], dict[str, np.ndarray]]:
    """The classes, and each group's indices among them; "all" last."""
    from collections import Counter

    import numpy as np

    from grasp_bench.cli.score_input import class_names, read_groups, split_groups

    limits = (head_above, tail_below)
    if groups and limits != (None, None):
        raise UserError("--groups and --head-above/--tail-below both make groups. Give one.")
    if limits != (None, None) and None in limits:
        raise UserError("--head-above and --tail-below go together: give both.")
    names = class_names(sources)
    if names is None:
        if groups or head_above is not None or per_class:
            raise UserError(
                f"{sources[0]} has no labels, so there are no classes to group or to show. Give class sub-folders, "
                "labels in the file, or --labels."
            )
        return [ALL], {ALL: np.arange(1)}
    found: dict[str, list[str]] = {}
    if groups:
        found = read_groups(groups, names)
    elif head_above is not None and tail_below is not None:
        counts = Counter(sources[0].labels or [])
        found = split_groups({name: counts[name] for name in names}, head_above, tail_below)
    members = {group: np.array(sorted(names.index(each) for each in classes)) for group, classes in found.items()}
    return names, {**members, ALL: np.arange(len(names))}


def _check_counts(sources: list[Source], names: list[str], members: dict[str, np.ndarray], protocol: Protocol) -> None:
    """Raise :class:`UserError` where images are too few, before anything is extracted."""
    import numpy as np

    from grasp_bench.metrics.scoring import plan_counts

    counts = [np.bincount(_indices(each, names), minlength=len(names)) for each in sources]
    try:
        plan_counts(counts[0], counts[1], names, members, protocol)
    except ValueError as error:
        raise UserError(f"too few images: {error}") from error
    least = 2 if "authenticity" in protocol.metrics else 1
    if len(sources) > 2 and (counts[2] < least).any():
        rarest = int(np.argmin(counts[2]))
        raise UserError(
            f"{sources[2]}: class {names[rarest]!r} has {counts[2][rarest]} training images, at least {least} are "
            "needed. Add some, or leave authenticity out of --metrics."
        )


def _indices(source: Source, names: list[str]) -> np.ndarray:
    import numpy as np

    position = {name: index for index, name in enumerate(names)}
    return np.array([position[label] for label in source.labels or [ALL] * len(source.ids)], dtype=np.int64)


def _features(
    sources: list[Source], extractor: str, weights: Path | None, device: str, cache_dir: Path, batch_size: int
) -> tuple[list[FeatureSet], dict[str, str] | None]:
    from grasp_bench.cli.score_input import features_of
    from grasp_bench.extractors.base import PretrainedExtractor
    from grasp_bench.harness.progress import Reporter

    def resolve() -> PretrainedExtractor:
        from grasp_bench.extractors.resolve import resolve_extractor
        from grasp_bench.harness.environment import pick_device

        return resolve_extractor(extractor, weights).to(str(pick_device(device)))

    return features_of(sources, resolve, cache_dir, batch_size, Reporter())


def _write_features(path: Path, sets: list[FeatureSet]) -> None:
    from grasp_bench.data.features import write_features

    for role, found in zip(("real", "fake", "train"), sets, strict=False):
        write_features(path.with_suffix(f".{role}.safetensors"), found)


def _report(
    sources: list[Source],
    sets: list[FeatureSet],
    names: list[str],
    members: dict[str, np.ndarray],
    protocol: Protocol,
    identity: dict[str, str] | None,
    cluster_by: str | None,
) -> ScoreReport:
    """Score the sets, with all that a reader must know of how."""
    from grasp_bench.cli.score_input import canonical_order, units_of
    from grasp_bench.extractors.inception import is_fid
    from grasp_bench.metrics.scoring import LabelledFeatures, score_sets
    from grasp_bench.report.scores import ScoreReport

    units: list[np.ndarray | None] = units_of(sources[:2], cluster_by) if cluster_by else [None, None]
    orders = [canonical_order(s, found.features) for s, found in zip(sources, sets, strict=True)]
    if "vendi" in protocol.metrics:
        _check_directions(sources, sets)
    data = [
        LabelledFeatures(found.features[order], _indices(s, names)[order], None if unit is None else unit[order])
        for s, found, order, unit in zip(sources, sets, orders, [*units, None], strict=False)
    ]
    scores = score_sets(data[0], data[1], names, members, protocol, data[2] if len(data) > 2 else None)
    fid = identity is not None and {"extractor", "weights"} <= identity.keys() and is_fid(identity)
    suffix = f"({identity.get('extractor', '?')})" if identity else ""
    copies = _copies(sources, sets) if "authenticity" in protocol.metrics else []
    return ScoreReport(
        facts=_facts(sources, names, members, protocol, identity, cluster_by, scores[0].n),
        scores=scores,
        scores_names=protocol.scores,
        notes=_notes(sources, protocol, identity, scores[0].n, [s for s in scores if s.kind == "class"], copies),
        distance="FID" if fid else f"FD{suffix}",
        kernel="KID" if fid else f"KD{suffix}",
        units=("image" if units[0] is None else str(cluster_by), "image" if units[1] is None else str(cluster_by)),
        copies=copies,
    )


def _check_directions(sources: list[Source], sets: list[FeatureSet]) -> None:
    """Raise :class:`UserError` for features that are all zero, which have no cosine."""
    from grasp_bench.data.labels import some

    for source, found in zip(sources[:2], sets, strict=False):
        zero = [name for name, row in zip(source.ids, found.features, strict=True) if not row.any()]
        if zero:
            raise UserError(
                f"{source}: the features of {some(zero)} are all zero, so the Vendi score has no angle to them. "
                "Leave vendi out of --metrics, or look at these images."
            )


def _copies(sources: list[Source], sets: list[FeatureSet]) -> list[dict[str, str]]:
    """Generated images with the very features of a training image, by name."""
    from grasp_bench.metrics.memorisation import near_duplicates

    found = near_duplicates(sets[2].features, sets[1].features, 0.0)
    pairs = zip(found.fake.tolist(), found.train.tolist(), strict=True)
    return [{"fake": sources[1].ids[a], "train": sources[2].ids[b]} for a, b in pairs]


def _facts(
    sources: list[Source],
    names: list[str],
    members: dict[str, np.ndarray],
    protocol: Protocol,
    identity: dict[str, str] | None,
    cluster_by: str | None,
    n: int,
) -> dict[str, Any]:
    from dataclasses import asdict

    from grasp_bench import __version__

    sets = {
        role: {"path": str(s.path), "images": len(s.ids), "ignored_files": s.ignored}
        for role, s in zip(("real", "fake", "train"), sources, strict=False)
    }
    return {
        "version": __version__,
        "extractor": identity,
        "n": n,
        "seed": protocol.seed,
        "protocol": {**asdict(protocol), "n_equal": protocol.n or "auto", "cluster_by": cluster_by, "n": n},
        **sets,
        "groups": {group: [names[index] for index in classes] for group, classes in members.items()},
    }


def _notes(
    sources: list[Source],
    protocol: Protocol,
    identity: dict[str, str] | None,
    n: int,
    classes: list[Any],
    copies: list[dict[str, str]],
) -> list[str]:
    from grasp_bench import __version__
    from grasp_bench.data.labels import some

    notes = [
        f"Each score is the mean over {protocol.draws} draws (seed {protocol.seed}) of n = {n} generated images "
        "against n real ones, spread evenly over the classes; floor: n held-out real images, of the other half of "
        "REAL, in place of the generated ones; excess: value - floor. Numbers at different n do not compare."
    ]
    scored = sorted({each.n for each in classes if each.value is not None})
    if scored:
        notes.append(
            f"Classes are scored at n = {scored[0]}, all that have enough alike; the worst is the one whose excess is "
            "furthest on the wrong side."
        )
    if small := list(dict.fromkeys(f"{each.name} (n={each.n})" for each in classes if each.value is None)):
        notes.append(f"n too small to be scored alone (at least {protocol.least} of each kind): {some(small)}.")
    if "kid" in protocol.metrics:
        notes.append("± is the standard error for the images of one draw (delete-half jackknife).")
    if "irs" in protocol.metrics:
        of = "all training images of the classes" if len(sources) > 2 else "the n real images of a draw"
        notes.append(f"IRS: share of {of} that endless generation would reach (irs_inf).")
    if protocol.resamples:
        notes.append(
            f"Bootstrap: {protocol.resamples} resamples of the units of the first draw, moved so that their mean is "
            "the value, since repeated images bias a score; IRS, which counts different images, has none."
        )
    for source in sources:
        if source.ignored:
            notes.append(
                f"{source}: {len(source.ignored)} files are no images and were ignored: {some(source.ignored)}."
            )
    if copies:
        pairs = some(f"{pair['fake']} = {pair['train']}" for pair in copies)
        notes.append(f"{len(copies)} generated images have the very features of a training image: {pairs}.")
    told = ", ".join(f"{key} {value}" for key, value in identity.items()) if identity else "not said by the files"
    return [*notes, f"Features: {told}. grasp-bench {__version__}."]
