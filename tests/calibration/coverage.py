"""How often intervals hold the truth: ``PYTHONPATH=tests python -m calibration.coverage PART ...`` records it.

Each part is one kind of interval at one size. The table of all that were recorded is written into docs/metrics.md,
also without any part.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import t

from grasp_bench.stats import blocks, half_width

from .classifiers import Classified
from .comparisons import METHODS, SPREADS, drawn
from .gradients import Gradients
from .worlds import FAR, NEAR, Pair, Truth

MEASURED = Path(__file__).with_name("coverage.json")
PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
BETWEEN = re.compile(r"(?<=<!-- coverage -->\n).*?(?=<!-- end -->)", re.DOTALL)
JACKKNIFE = "`score --bootstrap`"
SETS = ("fd", "kid", "vendi")
"""Metrics that are measured apart from those of neighbours, which take longer."""


@dataclass(frozen=True)
class Row:
    """One interval's coverage."""

    interval: str
    of: str
    setting: str
    repeats: int
    inside: int
    absent: int
    """Repeats in which there was no interval, and the output says so; they are not among ``repeats``."""
    length: float
    """Mean length of the intervals over that of normal scores of known deviation, :attr:`Truth.length`."""

    @property
    def share(self) -> float:
        """Share of the intervals that hold the truth."""
        return self.inside / self.repeats

    @property
    def error(self) -> float:
        """Monte-Carlo standard error of the share, by Laplace's rule so that it is not 0 at 100 %."""
        share = (self.inside + 1) / (self.repeats + 2)
        return float(np.sqrt(share * (1 - share) / self.repeats))


def judged(
    interval: str, of: str, setting: str, truth: Truth, found: Iterable[tuple[float | None, float | None]]
) -> Row:
    """The row of the intervals ``found``, low and high ends, None or NaN where there is none."""
    ends = np.array(list(found), dtype=np.float64)
    there = ends[~np.isnan(ends).any(axis=1)]
    inside = int(((there[:, 0] <= truth.mean) & (truth.mean <= there[:, 1])).sum())
    length = float(np.diff(there).mean()) / truth.length
    return Row(interval, of, setting, len(there), inside, len(ends) - len(there), round(length, 3))


def jackknife(world: Pair, repeats: int, sets: int, resamples: int, draws: int = 20) -> list[Row]:
    """Coverage of the expected score of as many images, for every metric."""
    truth = world.truth(sets, draws)
    ends: dict[str, list[tuple[float | None, float | None]]] = {name: [] for name in truth}
    for seed in range(repeats):
        for score in world.scores(seed, draws, resamples):
            assert score.bootstrap is not None
            ends[world.named(score)].append((score.bootstrap.low, score.bootstrap.high))
    units = "images" if world.per_cluster == 1 else f"images in {world.n // world.per_cluster} clusters"
    setting = f"{world.n} {units}" if world.classes == 1 else f"{world.classes} classes of {world.n} {units}"
    setting += "" if world.shift == NEAR else ", far off"
    return [judged(JACKKNIFE, name, setting, truth[name], ends[name]) for name in truth]


def classifiers(world: Classified, setting: str, repeats: int, sets: int = 2000, resamples: int = 200) -> list[Row]:
    """Coverage of the expected score of as many test images, for every metric of a classifier."""
    truth, found = world.truth(sets), list(world.intervals(repeats, resamples))
    return [
        judged(
            "classifier, in records",
            name,
            f"{setting} (score {truth[name].mean:.3f})",
            truth[name],
            [each[name] or (None, None) for each in found],
        )
        for name in truth
    ]


def kernel_error(world: Pair, repeats: int, sets: int, draws: int = 5) -> list[Row]:
    """Coverage of the expected kernel distance by 1.96 standard errors, which are printed after ±."""
    (truth,) = world.truth(sets, draws).values()
    ends = []
    for seed in range(repeats):
        (score,) = world.scores(seed, draws, 0)
        assert score.value is not None
        assert score.standard_error is not None
        ends.append((score.value - 1.96 * score.standard_error, score.value + 1.96 * score.standard_error))
    return [judged("`score`, 1.96 times ±", "kid", f"{world.n} images", truth, ends)]


Spread = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def lognormal(sd: float) -> Spread:
    """Return a log-normal spread about its mean, of that standard deviation of the logarithms."""
    return lambda stream, shape: stream.lognormal(0, sd, size=shape) - np.exp(sd**2 / 2)


SHAPES: dict[str, Spread] = {
    "normal": lambda stream, shape: stream.normal(size=shape),
    "heavy tails, t with 3 df": lambda stream, shape: stream.standard_t(3, size=shape),
    **{f"log-normal, SD of logarithms {sd}": lognormal(sd) for sd in (0.3, 0.5, 0.8)},
}
"""How a score spreads over seeds → values (repeats, seeds) of mean 0."""


def over_seeds(seeds: int, repeats: int = 100_000) -> list[Row]:
    """Coverage of the mean by Student's interval over so many seeds."""
    return [
        _of_mean(shape(np.random.default_rng(seeds), (repeats, seeds)), f"{seeds} seeds, {name}")
        for name, shape in SHAPES.items()
    ]


def over_splits(together: float, repeats: int = 100_000) -> list[Row]:
    """Coverage of the mean over ten seeds by Student's interval, where the two of each split correlate so."""
    stream = np.random.default_rng(10)
    pairs = stream.normal(size=(repeats, 5, 2)) @ np.linalg.cholesky([[1, together], [together, 1]]).T
    setting = f"10 seeds, normal, two that share a split correlate by {together:g}"
    return [_of_mean(pairs.reshape(repeats, 10), setting)]


def _of_mean(values: np.ndarray, setting: str) -> Row:
    """Coverage of a mean of 0 by Student's interval of each row of ``values`` (repeats, seeds)."""
    mean, half = values.mean(axis=1), half_width(values.std(axis=1, ddof=1), values.shape[1])
    ends = np.stack([mean - half, mean + half], axis=1).tolist()
    return judged("mean ± over seeds", "any score", setting, Truth(0.0, float(mean.std())), ends)


def single_differences(spread: str, seeds: int, repeats: int = 2000) -> list[Row]:
    """Coverage of the difference of two rows by the interval of it alone, as of metrics that are not primary.

    Each table of :data:`METHODS` rows, of which all are alike in the mean, gives one difference of two drawn by chance.
    """
    stream, ends, found = np.random.default_rng([METHODS, seeds]), [], []
    for _ in range(repeats):
        model = blocks(drawn(stream, SPREADS[spread](METHODS), seeds))
        pair = tuple(stream.choice(METHODS, 2, replace=False))
        half = t.ppf(0.975, model.error_df[pair]) * model.error[pair]
        found.append(model.difference[pair])
        ends.append((found[-1] - half, found[-1] + half))
    setting = f"{METHODS} rows, {seeds} seeds, SDs {spread}"
    return [judged("difference in other metrics", "any score", setting, Truth(0.0, float(np.std(found))), ends)]


def reruns(rows: int, seeds: int = 10, repeats: int = 1000) -> list[Row]:
    """Coverage of a rerun's score by the limit about the recorded one, where each seed has data of its own.

    As for ``reproduce``: the variance of a row is that of a model of rows and seeds. What data change has three times
    the deviation of the errors.
    """
    stream, ends = np.random.default_rng([rows, seeds]), []
    for _ in range(repeats):
        data = 3 * stream.normal(size=seeds)
        recorded = data + stream.normal(size=(rows, seeds))
        model = blocks(recorded)
        freedom = min(float(model.shrunken_df[0]), model.df)
        limit = t.ppf(0.975, freedom) * np.sqrt(2 * model.variances[0])
        change = recorded[0, 0] - data[0] - stream.normal()
        ends.append((change - limit, change + limit))
    setting = f"{seeds} seeds with data of their own, {rows - 1} other rows"
    return [judged("`reproduce`", "any score", setting, Truth(0.0, float(np.sqrt(2))), ends)]


def gradients(batches: int, repeats: int = 400) -> list[Row]:
    """Coverage of the cosine of two groups' gradients, and of what the partition into them lifts alignment by."""
    found = Gradients(batches).intervals(repeats)
    return [judged("`diagnose`", name, f"{batches} batches", true, ends) for name, (true, ends) in found.items()]


PARTS: dict[str, Callable[[], list[Row]]] = {
    "images-30": lambda: jackknife(Pair(30, 1, SETS), 200, 400, 120),
    "images-30-prdc": lambda: jackknife(Pair(30, 1, ("prdc",)), 200, 400, 200, draws=10),
    "images-100": lambda: jackknife(Pair(100, 1, SETS), 150, 300, 100, draws=5),
    "images-100-prdc": lambda: jackknife(Pair(100, 1, ("prdc",)), 200, 400, 200, draws=10),
    "images-1000": lambda: jackknife(Pair(1000, 1, SETS), 150, 200, 60, draws=3),
    "images-1000-prdc": lambda: jackknife(Pair(1000, 1, ("prdc",)), 60, 100, 120, draws=2),
    "clusters-15": lambda: jackknife(Pair(30, 2, SETS), 100, 200, 120),
    "clusters-15-prdc": lambda: jackknife(Pair(30, 2, ("prdc",)), 200, 400, 200, draws=10),
    "clusters-20": lambda: jackknife(Pair(100, 5, SETS), 150, 300, 100, draws=5),
    "clusters-20-prdc": lambda: jackknife(Pair(100, 5, ("prdc",)), 200, 400, 200, draws=10),
    "clusters-200": lambda: jackknife(Pair(1000, 5, SETS), 150, 200, 60, draws=3),
    "clusters-200-prdc": lambda: jackknife(Pair(1000, 5, ("prdc",)), 60, 100, 120, draws=2),
    "far-30": lambda: jackknife(Pair(30, 1, ("prdc",), shift=FAR), 200, 400, 200, draws=10),
    "far-100": lambda: jackknife(Pair(100, 1, ("prdc",), shift=FAR), 200, 400, 200, draws=10),
    "classes-30": lambda: jackknife(Pair(30, 1, ("fd", "vendi"), 10), 200, 300, 60, draws=5),
    "classes-30-prdc": lambda: jackknife(Pair(30, 1, ("prdc",), 10), 100, 200, 40, draws=5),
    "classifier-4": lambda: classifiers(Classified((4,) * 3, 4), "3 classes of 4 test images", 400),
    "classifier-10": lambda: classifiers(Classified((10,) * 10, 2), "10 classes of 10 test images", 400),
    "classifier-ceiling": lambda: classifiers(Classified((10,) * 10, 5), "10 classes of 10 test images", 400),
    "classifier-uneven": lambda: classifiers(
        Classified((4, 4, 4, 10, 10, 30, 30, 60, 60, 60), 4), "10 classes of 4 to 60 test images", 400
    ),
    "classifier-patients": lambda: classifiers(Classified((25,) * 4, 2, 5), "4 classes of 5 patients of 5 images", 400),
    "classifier-across": lambda: classifiers(
        Classified((25,) * 4, 2, 5, True), "20 patients of 5 images of several of 4 classes", 400
    ),
    "kid-30": lambda: kernel_error(Pair(30, 1, ("kid",)), 400, 1000),
    "kid-100": lambda: kernel_error(Pair(100, 1, ("kid",)), 400, 1000),
    "kid-1000": lambda: kernel_error(Pair(1000, 1, ("kid",)), 200, 200, draws=2),
    "seeds-3": lambda: over_seeds(3),
    "seeds-5": lambda: over_seeds(5),
    "seeds-10": lambda: over_seeds(10),
    "splits-apart": lambda: over_splits(-0.5),
    "splits-together": lambda: over_splits(0.5),
    "differences-5": lambda: single_differences("0.5 to 1.5, evenly", 5),
    "differences-10": lambda: single_differences("0.5 to 1.5, evenly", 10),
    "reruns-2": lambda: reruns(3),
    "reruns-17": lambda: reruns(18),
    "diagnose-4": lambda: gradients(4),
    "diagnose-8": lambda: gradients(8),
    "diagnose-16": lambda: gradients(16),
}
"""Part → its measurement; those of 1,000 images take the longest."""


def measured() -> list[Row]:
    """All rows that were recorded, in the order of the parts."""
    found = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    return [Row(**row) for part in PARTS for row in found.get(part, [])]


def table() -> str:
    """The recorded rows as Markdown."""
    lines = ["| interval | of | truth known for | holds it, % | length | repeats |", "|---|---|---|---|---|---|"]
    for row in measured():
        share = f"{100 * row.share:.1f} ± {100 * row.error:.1f}"
        absent = f" ({row.absent} without)" if row.absent else ""
        lines.append(
            f"| {row.interval} | `{row.of}` | {row.setting} | {share} | {row.length:.2f} | {row.repeats}{absent} |"
        )
    return "\n".join(lines) + "\n"


def written(text: str) -> str:
    """A page with the table of what is recorded."""
    return BETWEEN.sub(lambda _: table(), text)


def main(parts: list[str]) -> None:
    """Measure and record parts, and write the table; without parts, write it alone."""
    for part in parts:
        rows = [vars(row) for row in PARTS[part]()]
        found = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
        MEASURED.write_text(json.dumps(found | {part: rows}, indent=1) + "\n")
        print(part, *(f"{row['of']} {row['inside']}/{row['repeats']}" for row in rows), sep="\n  ", flush=True)
    PAGE.write_text(written(PAGE.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
