"""What two records say differently: fields, scores, and why they may not stand in one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import JsonValue

from grasp_bench.contracts.record import RunRecord
from grasp_bench.io import flattened
from grasp_bench.results.frame import SCORE_NUMBERS, SCORE_TEXTS, frame_of

if TYPE_CHECKING:
    import pandas as pd

PLACE = ["metric", "source", "test_set", "extractor", "group", "scope"]
"""Columns that identify a score within a run, in the order of :attr:`~grasp_bench.contracts.record.Score.place`."""


class Difference(NamedTuple):
    """A field with different values in two records; None in a record that does not have it."""

    field: str
    """Path of the field, such as ``method.settings.rank``."""
    a: JsonValue
    b: JsonValue

    def __str__(self) -> str:
        return f"{self.field}: {shown(self.a)} | {shown(self.b)}"


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """Return the fields that differ, in the order of ``a``, then those of ``b`` alone; dots join nested names."""
    of_a, of_b = flattened(a), flattened(b)
    return [
        Difference(field, of_a.get(field), of_b.get(field))
        for field in {**of_a, **of_b}
        if of_a.get(field) != of_b.get(field)
    ]


def environment_differences(a: RunRecord, b: RunRecord) -> list[Difference]:
    """Return what differs in where the runs were made: versions, device, threads and commit."""
    return differences(a.environment.model_dump(mode="json"), b.environment.model_dump(mode="json"))


def paired_scores(a: RunRecord, b: RunRecord) -> pd.DataFrame:
    """Return one row per score, indexed by :data:`PLACE`: the scores of A in their order, then those of B alone.

    Columns of A and B end in ``_a`` and ``_b``; they are missing where a run does not have the score.
    """
    of_a, of_b = (scores_of(record) for record in (a, b))
    index = of_a.index.append(of_b.index.difference(of_a.index, sort=False))
    return of_a.reindex(index).add_suffix("_a").join(of_b.reindex(index).add_suffix("_b"))


def scores_of(record: RunRecord) -> pd.DataFrame:
    """Return the scores of a run, with the columns that the frame of all runs has of them, indexed by :data:`PLACE`."""
    frame = frame_of([("", record)])
    scores = frame.loc[frame["metric"].notna(), [*SCORE_TEXTS, *SCORE_NUMBERS]]
    return scores.astype(dict.fromkeys(SCORE_TEXTS, object)).set_index(PLACE)


def why_not_comparable(a: RunRecord, b: RunRecord) -> list[str]:
    """Return every reason for which the two may not stand in one table; none where they may."""
    reasons = [
        f"run {name} is {record.status}: it has no scores"
        for name, record in (("A", a), ("B", b))
        if record.status != "finished"
    ]
    for part in ("task", "backbone", "budget"):
        of_a, of_b = (getattr(record.spec, part).model_dump(mode="json") for record in (a, b))
        reasons += [f"another {part}: {each}" for each in differences(of_a, of_b)]
    if a.rules != b.rules:
        reasons.append(f"another version of the rules: {a.rules or 'none'} | {b.rules or 'none'}")
    of_a, of_b = (record.protocol | {"rules": ""} for record in (a, b))
    return reasons + [f"another version of what decides scores: {each}" for each in differences(of_a, of_b)]


def shown(value: JsonValue) -> str:
    """Return a value as a table shows it."""
    return "-" if value is None else str(value)
