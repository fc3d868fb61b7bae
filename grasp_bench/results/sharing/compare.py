"""Two runs beside each other: what was asked, where it was made, what it cost and what came out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from grasp_bench.contracts.record import RunRecord, Score, title
from grasp_bench.results.sharing.differences import (
    Difference,
    cost_differences,
    environment_differences,
    protocol_differences,
    spec_differences,
    why_not_comparable,
)

Side = Literal["a", "b"]


@dataclass(frozen=True)
class ScorePair:
    """One score of one group in both runs; None where a run does not have it."""

    name: str
    label: str
    group: str
    scope: str
    direction: Literal["lower", "higher"]
    a: Score | None
    b: Score | None
    difference: float | None
    """B - A."""
    better: Side | None
    """None where they are equal, or one has no value."""
    b_inside_a: bool | None
    """Whether B's value lies within the interval that A records; None where there is no such interval or value."""
    a_inside_b: bool | None


@dataclass(frozen=True)
class Comparison:
    """What differs between run A and run B; equal fields are left out, scores are all there."""

    a: RunRecord
    b: RunRecord
    same_run: bool
    """Whether the specifications are one: then the scores should be equal, too."""
    reasons: list[str]
    """Why the two may not stand in one table; empty where they may."""
    streams: str
    """In words: whether both saw the same data order, noise, timesteps and dropped prompts."""
    streams_equal: bool | None
    """None where a record does not say."""
    spec: list[Difference]
    environment: list[Difference]
    protocol: list[Difference]
    cost: list[Difference]
    scores: list[ScorePair]

    @property
    def comparable(self) -> bool:
        """Whether they are under the same task version, budget, backbone and rules."""
        return not self.reasons


def compare(a: RunRecord, b: RunRecord) -> Comparison:
    """Put two records beside each other."""
    equal = None if a.streams is None or b.streams is None else a.streams == b.streams
    return Comparison(
        a=a,
        b=b,
        same_run=a.run_id == b.run_id,
        reasons=why_not_comparable(a, b),
        streams=_streams(a, b, equal),
        streams_equal=equal,
        spec=spec_differences(a, b),
        environment=environment_differences(a, b),
        protocol=protocol_differences(a, b),
        cost=cost_differences(a, b),
        scores=_scores(a, b),
    )


def inside(value: float | None, metric: Score | None) -> bool | None:
    """Whether ``value`` lies within the interval of ``metric``; None where one of them is not there."""
    if value is None or metric is None or metric.interval is None:
        return None
    return metric.interval.low <= value <= metric.interval.high


def by_place(record: RunRecord) -> dict[tuple[str, ...], Score]:
    """What tells a score from others of its run → score."""
    return {score.place: score for score in record.scores}


def name_of(score: Score) -> str:
    """The metric with the source and test set that are not the usual ones."""
    source = "" if score.source == "generated" else f", {score.source}"
    return score.metric + source + ("" if score.test_set == "test" else f", {score.test_set}")


def _streams(a: RunRecord, b: RunRecord, equal: bool | None) -> str:
    if equal is None:
        return "not known: a record has no hash of its streams"
    if equal:
        return "equal: both saw the same data order, noise, timesteps and dropped prompts at every step"
    if a.spec.seed != b.spec.seed:
        return f"different, as they are for different seeds ({a.spec.seed} | {b.spec.seed})"
    return "DIFFERENT at the same seed, as they are where tasks or batches differ, or a method resamples classes"


def _scores(a: RunRecord, b: RunRecord) -> list[ScorePair]:
    """In the order of A, then what B alone has."""
    of_a, of_b = by_place(a), by_place(b)
    return [_pair(of_a.get(place), of_b.get(place)) for place in dict.fromkeys([*of_a, *of_b])]


def _pair(a: Score | None, b: Score | None) -> ScorePair:
    known = a or b
    assert known
    values = [None if metric is None else metric.value for metric in (a, b)]
    difference = None if values[0] is None or values[1] is None else values[1] - values[0]
    better: Side | None = None
    if difference:
        better = "b" if (difference < 0) == (known.direction == "lower") else "a"
    return ScorePair(
        name=name_of(known),
        label=title(known.label, None if known.source == "generated" else known.source, known.test_set),
        group=known.group,
        scope=known.scope,
        direction=known.direction,
        a=a,
        b=b,
        difference=difference,
        better=better,
        b_inside_a=inside(values[1], a),
        a_inside_b=inside(values[0], b),
    )
