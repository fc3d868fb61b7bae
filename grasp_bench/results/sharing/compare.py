"""Two runs side by side: what was asked, where it was made, what it cost, and the scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grasp_bench.contracts.record import RunRecord
from grasp_bench.results.sharing.differences import Difference, differences, paired_scores, why_not_comparable
from grasp_bench.results.sharing.seeds import apart, seed_spread

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Comparison:
    """What differs between run A and run B; equal fields are left out, scores are all there."""

    a: RunRecord
    b: RunRecord
    reasons: list[str]
    """Why the two may not stand in one table; empty where they may."""
    streams: str
    """Whether both saw the same data order, noise, timesteps and dropped prompts, in words."""
    streams_equal: bool | None
    """Whether the two had equal streams; None where a record does not say."""
    fields: dict[str, list[Difference]]
    """Differences of the specification, the environment, the protocol and the cost."""
    scores: pd.DataFrame
    """Rows of :func:`paired_scores` with ``metric_label``, ``direction``, ``difference`` (B - A), ``better`` ("a" or
    "b", missing where they are equal or one has no value), and ``apart``: the difference over what two seeds differ by
    at most in 95 of 100 cases, missing where fewer than three seeds are recorded."""

    @property
    def same_run(self) -> bool:
        """Whether both have one specification: then the scores should be equal, too."""
        return self.a.run_id == self.b.run_id

    @property
    def comparable(self) -> bool:
        """Whether both have the same task version, budget, backbone and rules."""
        return not self.reasons


def compare(a: RunRecord, b: RunRecord, spread: pd.DataFrame | None = None) -> Comparison:
    """Put two records side by side; ``spread`` is that of :func:`spread_beside`, by default of the two alone."""
    equal = None if a.streams is None or b.streams is None else a.streams == b.streams
    of_a, of_b = _fields(a), _fields(b)
    return Comparison(
        a=a,
        b=b,
        reasons=why_not_comparable(a, b),
        streams=_streams(a, b, equal),
        streams_equal=equal,
        fields={part: differences(of_a[part], of_b[part]) for part in of_a},
        scores=_scores(a, b, seed_spread([[a], [b]]) if spread is None else spread),
    )


def _fields(record: RunRecord) -> dict[str, dict[str, Any]]:
    """Return what is compared field by field: hashes of stages and weights count as protocol."""
    found = record.model_dump(mode="json", include={"spec", "environment", "protocol", "stages", "weights", "cost"})
    return {
        "spec": found["spec"],
        "environment": found["environment"],
        "protocol": {name: found[name] for name in ("protocol", "stages", "weights")},
        "cost": found["cost"] or {},
    }


def _streams(a: RunRecord, b: RunRecord, equal: bool | None) -> str:
    if equal is None:
        return "not known: a record has no hash of its streams"
    if equal:
        return "equal: both saw the same data order, noise, timesteps and dropped prompts at every step"
    if a.spec.seed != b.spec.seed:
        return f"different, as they are for different seeds ({a.spec.seed} | {b.spec.seed})"
    return "DIFFERENT at the same seed, as they are where tasks or batches differ, or a method resamples classes"


def _scores(a: RunRecord, b: RunRecord, spread: pd.DataFrame) -> pd.DataFrame:
    found = paired_scores(a, b)
    difference = found["value_b"] - found["value_a"]
    direction = found["direction_a"].fillna(found["direction_b"])
    improved = (difference < 0) == (direction == "lower")
    return found.assign(
        metric_label=found["metric_label_a"].fillna(found["metric_label_b"]),
        direction=direction,
        difference=difference,
        better=improved.map({True: "b", False: "a"}).where(difference.notna() & (difference != 0)),
        apart=apart(found, spread),
    )
