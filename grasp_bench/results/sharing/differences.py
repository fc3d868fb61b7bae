"""What two records say differently, field by field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from grasp_bench.contracts.record import Cost, RunRecord


@dataclass(frozen=True)
class Difference:
    """A field with another value in each record; None where one of them does not have it."""

    field: str
    """Its place, such as ``method.settings.rank``."""
    a: JsonValue
    b: JsonValue


def spec_differences(a: RunRecord, b: RunRecord) -> list[Difference]:
    """Of what was asked."""
    return _differences(a.spec.model_dump(mode="json"), b.spec.model_dump(mode="json"))


def environment_differences(a: RunRecord, b: RunRecord) -> list[Difference]:
    """Of where the runs were made: versions, device, threads, commit and whether it was changed."""
    return _differences(a.environment.model_dump(mode="json"), b.environment.model_dump(mode="json"))


def protocol_differences(a: RunRecord, b: RunRecord) -> list[Difference]:
    """Of the versions of rules, extractor and stages, and of the stages' keys and the weights."""

    def fields(record: RunRecord) -> dict[str, JsonValue]:
        return {"protocol": {**record.protocol}, "stages": {**record.stages}, "weights": record.weights}

    return _differences(fields(a), fields(b))


def cost_differences(a: RunRecord, b: RunRecord) -> list[Difference]:
    """Of what the runs spent."""

    def fields(cost: Cost | None) -> dict[str, JsonValue]:
        return cost.model_dump(mode="json") if cost else {}

    return _differences(fields(a.cost), fields(b.cost))


def why_not_comparable(a: RunRecord, b: RunRecord) -> list[str]:
    """Every reason for which the two may not stand in one table; empty where they may."""
    reasons = [
        f"run {name} is {record.status}: it has no scores"
        for name, record in (("A", a), ("B", b))
        if record.status != "finished"
    ]
    for title, field in (("task", "task"), ("backbone", "backbone"), ("budget", "budget")):
        of_a, of_b = (getattr(record.spec, field).model_dump(mode="json") for record in (a, b))
        reasons += [f"another {title}: {told(each)}" for each in _differences(of_a, of_b)]
    if a.rules != b.rules:
        reasons.append(f"another version of the rules: {a.rules or 'none'} | {b.rules or 'none'}")
    parts = [{key: value for key, value in record.protocol.items() if key != "rules"} for record in (a, b)]
    reasons += [f"another version of what decides scores: {told(each)}" for each in _differences(*parts)]
    return reasons


def told(difference: Difference) -> str:
    """``rank: 8 | 16``."""
    return f"{difference.field}: {shown(difference.a)} | {shown(difference.b)}"


def shown(value: JsonValue) -> str:
    """A value as a table shows it."""
    return "-" if value is None else value if isinstance(value, str) else str(value)


def _differences(a: Mapping[str, JsonValue], b: Mapping[str, JsonValue]) -> list[Difference]:
    """In the order of ``a``, then what ``b`` alone has; nested fields are named with dots."""
    found = [dict(_flat(values)) for values in (a, b)]
    return [
        Difference(field, found[0].get(field), found[1].get(field))
        for field in dict.fromkeys([*found[0], *found[1]])
        if found[0].get(field) != found[1].get(field)
    ]


def _flat(values: Mapping[str, JsonValue], prefix: str = "") -> Iterable[tuple[str, JsonValue]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
