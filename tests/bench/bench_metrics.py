"""How fast the metrics are beside the packages that are usually called for them, and how they grow with n.

``PYTHONPATH=tests python -m bench.bench_metrics`` writes results/perf/metrics.json and takes about ten minutes on two
cores; ``--quick`` tries it at small sizes, ``--full`` adds the largest size of nearest neighbours.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from grasp_bench.contracts.metric import Sets
from grasp_bench.data.longtail import rank_groups
from grasp_bench.metrics.frechet import _cross_by_root, _root, _scaled, frechet_distance
from grasp_bench.metrics.groups import group_members
from grasp_bench.metrics.prdc import prdc
from grasp_bench.metrics.protocol import Measured, Protocol
from grasp_bench.metrics.registry import chosen
from grasp_bench.metrics.scoring import measure

from .recording import RESULTS, TRIALS, Measure, growth_exponent, interleaved, record, timed
from .reference import PACKAGES, PEERS

METRICS = ("fd", "kid", "prdc", "vendi", "irs")
SHARED = METRICS[:-1]  # those that a peer has, too
PROTOCOL = Protocol(chosen(METRICS), k=3)
IMBALANCE = 10  # images of the most frequent class over those of the rarest


@dataclass(frozen=True)
class Sizes:
    """What is measured at which size."""

    images: int = 10_000
    classes: int = 1_000
    width: int = 2_048
    sampled_classes: int = 5
    frechet_rows: int = 300
    frechet_repeats: int = 5
    prdc_rows: tuple[int, ...] = (6_250, 12_500, 25_000)
    prdc_width: int = 256


QUICK = Sizes(
    images=1_000, classes=100, width=256, sampled_classes=2, frechet_rows=50, frechet_repeats=3, prdc_rows=(500, 1_000)
)


@dataclass(frozen=True, eq=False)
class Images:
    """Random features of real and generated images; row i of both is of the same class."""

    real: np.ndarray
    fake: np.ndarray
    labels: np.ndarray
    members: Mapping[str, np.ndarray]
    """Group → class indices."""

    def of(self, classes: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Real and generated rows of these classes."""
        rows = np.isin(self.labels, classes)
        return self.real[rows], self.fake[rows]


def random_images(sizes: Sizes) -> Images:
    """Normal float32 features, as extractors give; class sizes fall exponentially, and groups are thirds of classes."""
    profile = IMBALANCE ** -np.linspace(0, 1, sizes.classes)
    ends = np.rint(np.cumsum(profile) * sizes.images / profile.sum())
    counts = np.diff(ends, prepend=0).astype(int)
    third = sizes.classes // 3
    groups = rank_groups(counts.tolist(), (third, sizes.classes - 2 * third, third), ("head", "medium", "tail"))
    stream = np.random.default_rng(0)
    real, fake = stream.standard_normal((2, sizes.images, sizes.width), dtype=np.float32)
    return Images(real, fake, np.repeat(np.arange(sizes.classes), counts), group_members(np.array(groups)))


def all_metrics(sizes: Sizes) -> Measure:
    """Every metric of every group and class, against the peers' own once each."""
    images = random_images(sizes)
    compared = same_rows(*images.of([0]))  # also loads the peers, which none of them is charged for
    before, scores = timed(lambda: engine_scores(images))
    groups = {group: peer_seconds(*images.of(classes)) for group, classes in images.members.items()}
    sample = np.sort(np.random.default_rng(0).choice(sizes.classes, sizes.sampled_classes, replace=False))
    classes = {f"class {index}": peer_seconds(*images.of([index])) for index in sample}
    after, _ = timed(lambda: engine_scores(images))

    scored = len({score.name for score in scores if score.scope == "class" and score.value is not None})
    group_seconds = sum(each["seconds"] for each in groups.values())
    class_seconds = sum(each["seconds"] for each in classes.values()) / len(classes) * scored
    engine = max(before, after)
    return Measure(
        name="all metrics of all groups and classes: peers' time over ours",
        value=(group_seconds + class_seconds) / engine,
        unit="times",
        at_least=5,
        method=(
            f"Ours: {', '.join(METRICS)} of four groups and {scored} classes, {PROTOCOL.draws} draws at equal counts, "
            "each with its floor; the slower of one run before and one after the peers. Peers: once for each group, "
            f"all its rows, measured in full; and once for each of {len(classes)} classes drawn at random from all "
            f"{sizes.classes}, whose mean is scaled to the {scored} classes that are large enough for us to score "
            "alone, though the peers would go through all. Peers make no draws and no floors and have no IRS. A peer's "
            "time on a class that it fails on is not counted. Each of these leaves the ratio smaller. It is larger for "
            "this: the peers take all rows of a group or class, and we as many as every group or class can give (n)."
        ),
        details={
            "ours": {"seconds": [before, after], "n": rows_used(scores)},
            "images": {"real": len(images.real), "generated": len(images.fake), "width": sizes.width},
            "class_sizes": size_summary(images.labels),
            "classes_scored": scored,
            "peers_group_seconds": group_seconds,
            "peers_class_seconds_scaled": class_seconds,
            "peers_groups": groups,
            "peers_sampled_classes": classes,
            "same_rows": compared,
        },
    )


def engine_scores(images: Images) -> list[Measured]:
    """What the harness and ``grasp-bench score`` call."""
    from grasp_bench.metrics.labelled import LabelledFeatures
    from grasp_bench.metrics.scoring import group_scores

    real, fake = (LabelledFeatures(features, images.labels) for features in (images.real, images.fake))
    names = [f"class {index}" for index in range(images.labels.max() + 1)]
    return group_scores(real, fake, names, images.members, PROTOCOL)


def rows_used(scores: Sequence[Measured]) -> dict[str, list[int]]:
    """The n of every group and of every class that is scored alone."""
    kinds = ("group", "class")
    return {kind: sorted({s.n for s in scores if s.scope == kind and s.value is not None}) for kind in kinds}


def peer_seconds(real: np.ndarray, fake: np.ndarray) -> dict[str, Any]:
    """Seconds of every peer that scores these rows, their sum, and what the others said."""
    seconds: dict[str, float] = {}
    failed: dict[str, str] = {}
    for name, peer in PEERS.items():
        try:
            seconds[name], _ = timed(partial(peer, real, fake, PROTOCOL.k))
        except ValueError as error:
            failed[name] = str(error)
    return {"n": len(real), "seconds": sum(seconds.values()), "by_peer": seconds, "failed": failed}


def same_rows(real: np.ndarray, fake: np.ndarray) -> dict[str, Any]:
    """What the peers and we say of the same rows."""
    peers = {name: value for peer in PEERS.values() for name, value in peer(real, fake, PROTOCOL.k).items()}
    ours = measure(Sets(real, fake, real, k=PROTOCOL.k), chosen(SHARED))
    return {"n": len(real), "scores": {name: {"ours": ours[name], "peer": peers[name]} for name in ours}}


def size_summary(labels: np.ndarray) -> dict[str, float]:
    """The smallest, middle and largest class."""
    counts = np.bincount(labels)
    return {"smallest": int(counts.min()), "median": float(np.median(counts)), "largest": int(counts.max())}


def few_rows(sizes: Sizes) -> Measure:
    """The Fréchet distance of few rows against the usual route through the eigenvalues of (d, d) matrices."""
    stream = np.random.default_rng(0)
    real, fake = stream.standard_normal((2, sizes.frechet_rows, sizes.width))
    calls = {"ours": lambda: frechet_distance(real, fake), "eigenvalues": lambda: by_eigenvalues(real, fake)}
    values = {name: call() for name, call in calls.items()}  # also warms up
    seconds = interleaved(calls, sizes.frechet_repeats)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return Measure(
        name=f"Fréchet distance of {sizes.frechet_rows:,} by {sizes.width:,}: eigenvalues' time over ours",
        value=medians["eigenvalues"] / medians["ours"],
        unit="times",
        at_least=20,
        method=f"Medians of {sizes.frechet_repeats} interleaved repeats after one to warm up, in float64.",
        details={"seconds": seconds, "median_seconds": medians, "distances": values},
    )


def by_eigenvalues(real: np.ndarray, fake: np.ndarray) -> float:
    """The Fréchet distance with the trace of (Σ₁Σ₂)^½ from eigenvalues."""
    a, b = _scaled(real), _scaled(fake)
    means = np.square(real.mean(axis=0) - fake.mean(axis=0)).sum()
    return float(means + np.square(a).sum() + np.square(b).sum() - 2 * _cross_by_root(_root(a), b))


def many_rows(sizes: Sizes) -> list[Measure]:
    """Growth of time and peak memory of ``prdc`` with n."""
    usage = []
    for n in sizes.prdc_rows:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
            usage.append(fresh.submit(prdc_usage, n, sizes.prdc_width).result())
    seconds = [min(each["seconds"]) for each in usage]
    peak = max(each["peak_mib"] for each in usage)
    shape = f"prdc of n by n by {sizes.prdc_width}"
    sizes_text = ", ".join(f"{n:,}" for n in sizes.prdc_rows)
    return [
        Measure(
            name=f"{shape}: exponent of time in n",
            value=growth_exponent(sizes.prdc_rows, seconds),
            unit="",
            at_most=2.1,
            method=f"Least squares on logarithms over n = {sizes_text}; the faster of two runs in a fresh process.",
            details={"runs": usage},
        ),
        Measure(
            name=f"{shape}: peak memory at n = {sizes.prdc_rows[-1]:,}",
            value=peak,
            unit="MiB",
            at_most=2048,
            method="Largest resident set (ru_maxrss) of the whole fresh process, features and interpreter included.",
        ),
    ]


def prdc_usage(n: int, width: int) -> dict[str, Any]:
    """Seconds of two runs, and this process's peak memory."""
    stream = np.random.default_rng(0)
    real, fake = stream.standard_normal((2, n, width))
    seconds = [timed(lambda: prdc(real, fake, PROTOCOL.k))[0] for _ in range(2)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in kB or, on macOS, B
    return {"n": n, "seconds": seconds, "peak_mib": peak / (2**20 if sys.platform == "darwin" else 1024)}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="bench.bench_metrics", description="Time the metrics.")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="small sizes, for which the targets are not meant")
    size.add_argument("--full", action="store_true", help="nearest neighbours of 50,000 rows as well")
    chosen = parser.parse_args()
    sizes = QUICK if chosen.quick else Sizes()
    if chosen.full:
        sizes = replace(sizes, prdc_rows=(*sizes.prdc_rows, 50_000))
    # memory first: on Linux a new process's peak begins at what its parent holds
    measures = [*many_rows(sizes), few_rows(sizes), all_metrics(sizes)]
    record("metrics", measures, PACKAGES, TRIALS if chosen.quick else RESULTS)


if __name__ == "__main__":
    main()
