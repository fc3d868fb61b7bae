"""A comparison as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from grasp_bench.contracts.extractor import extractor_label
from grasp_bench.contracts.record import ARROWS, RunRecord
from grasp_bench.results.sharing.compare import Comparison
from grasp_bench.results.sharing.differences import Difference, shown
from grasp_bench.screen import Cell, Sheet
from grasp_bench.text import printable

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Group
    from rich.text import Text

ABSENT = "-"
WORDS = {
    "equal": "equal",
    "within": "agrees",
    "outside": "further apart",
    "missing": "MISSING",
    "unknown": "not judged",
}
TITLES = {
    "spec": "specification",
    "environment": "environment",
    "protocol": "rules, stages and weights",
    "cost": "cost",
}
NOTE = (
    "The better value is bold. Apart: the difference over what two seeds differ by at most in 95 of 100 cases, by the "
    "seeds that are recorded beside either run; what other data change, which a seed may draw, counts only where the "
    "two runs have other data. Above 1 seeds alone do not explain that one score. It is - where fewer than three seeds "
    "are recorded, or, of seeds with data of their own, fewer than two other methods. `grasp-bench report` compares "
    "methods over seeds. These are scores of whole groups; --json also has the means over their classes and their "
    "worst classes."
)


def json_payload(found: Comparison) -> dict[str, Any]:
    """Return all of a comparison, with what identifies the two runs in place of their records."""
    scores = found.scores.reset_index().astype(object)
    return {
        "a": _named(found.a),
        "b": _named(found.b),
        "comparable": found.comparable,
        "same_run": found.same_run,
        "reasons": found.reasons,
        "streams": found.streams,
        "streams_equal": found.streams_equal,
        **{part: [each._asdict() for each in differing] for part, differing in found.fields.items()},
        "scores": scores.where(scores.notna(), None).to_dict("records"),
    }


def rich_comparison(found: Comparison) -> Group:
    """Return for a terminal whether the runs compare, what differs, and the scores by group."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Text | Sheet] = [_runs(found)]
    parts += [Text(), *_verdict(found), Text(f"Streams: {found.streams}."), Text()]
    for part, title in TITLES.items():
        differing = found.fields[part]
        parts.append(difference_table(title, differing) if differing else Text(f"{title}: equal"))
    parts += [_score_table(str(group), each) for group, each in _pooled(found.scores).groupby("group", sort=False)]
    return Group(*parts, Text("neither run has scores" if found.scores.empty else NOTE))


def difference_table(title: str, differing: Iterable[Difference], sides: tuple[str, str] = ("A", "B")) -> Sheet:
    """Return a table of the fields that differ."""
    rows = [(each.field, _short(each.field, each.a), _short(each.field, each.b)) for each in differing]
    return Sheet(title, ("", *sides), rows)


def reproduction_table(scores: pd.DataFrame) -> Sheet:
    """Return a table of the scores of whole groups, recorded and rerun, and of any other that disagrees."""
    rows = []
    shown_scores = scores.reset_index()
    row: Any
    for row in shown_scores[
        (shown_scores["scope"] == "group") | shown_scores["verdict"].isin(["outside", "missing"])
    ].itertuples():
        metric = _metric(row)
        name = metric if row.scope == "group" else f"{metric}, {row.scope}"
        values = (_value(row.value_a, row.n_a), _value(row.value_b, row.n_b))
        rows.append((name, row.source, row.test_set, row.group, *values, WORDS[row.verdict], _ratio(row.apart)))
    columns = ("score", "source", "test set", "group", "recorded", "rerun", "", "apart")
    return Sheet("scores", columns, rows, keys=4)


def _metric(row: Any) -> str:
    """Return the name of a metric, with the extractor where it is not the task's first."""
    return f"{row.metric}({extractor_label(row.extractor)})" if row.extractor else str(row.metric)


def _pooled(scores: pd.DataFrame) -> pd.DataFrame:
    found = scores.reset_index()
    return found[found["scope"] == "group"]


def _verdict(found: Comparison) -> list[Text]:
    from rich.text import Text

    if found.comparable:
        same = " They are two runs of one specification." if found.same_run else ""
        return [Text(f"Comparable: same task version, budget, backbone and rules.{same}")]
    return [
        Text("NOT comparable, and in no common table:"),
        *(Text(f"  - {printable(reason)}") for reason in found.reasons),
    ]


def _score_table(group: str, scores: pd.DataFrame) -> Sheet:
    rows = []
    row: Any
    for row in scores.itertuples():
        a, b = _value(row.value_a, row.n_a), _value(row.value_b, row.n_b)
        cells: list[str | Cell] = [f"{_metric(row)} {ARROWS[row.direction]}", row.source, row.test_set]
        cells += [Cell(a, "bold" if row.better == "a" else ""), Cell(b, "bold" if row.better == "b" else "")]
        cells.append(ABSENT if row.difference != row.difference else f"{row.difference:+.4g}")
        rows.append([*cells, _ratio(row.apart)])
    columns = ("score", "source", "test set", "A", "B", "B - A", "apart")
    return Sheet(f"scores: {group}", columns, rows, frozenset(range(3, len(columns))), keys=3)


def _ratio(apart: float) -> str:
    return ABSENT if apart != apart else f"{apart:.2f}"


def _value(value: float, n: float) -> str:
    if n != n:
        return ABSENT
    return f"n too small (n={n:.0f})" if value != value else f"{value:.4g}"


def _short(field: str, value: Any) -> str:
    """Return a value as a table shows it; a hash by its first twelve digits."""
    text = shown(value)
    return text[:12] if field.startswith(("stages.", "weights", "git_commit")) else text


def _runs(found: Comparison) -> Sheet:
    """Return a table that says what the two runs are."""
    rows = [
        (side, *rec.row[:2], rec.row.told, rec.task_label, str(rec.spec.seed), rec.run_id[:12], rec.status)
        for side, rec in (("A", found.a), ("B", found.b))
    ]
    return Sheet("", ("", "method", "guidance", "settings", "task", "seed", "run", "status"), rows)


def _named(record: RunRecord) -> dict[str, Any]:
    named = record.model_dump(include={"label", "task_label", "run_id", "status"})
    return named | {"seed": record.spec.seed}
