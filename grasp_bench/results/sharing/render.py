"""A comparison as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from grasp_bench.contracts.extractor import extractor_label
from grasp_bench.contracts.record import ARROWS, RunRecord
from grasp_bench.results.sharing.compare import Comparison
from grasp_bench.results.sharing.differences import Difference, shown
from grasp_bench.text import printable

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

ABSENT = "-"
WORDS = {"equal": "equal", "within": "agrees", "outside": "DISAGREES"}
WITHIN = {(True, True): "both", (True, False): "A's", (False, True): "B's", (False, False): "neither"}
TITLES = {
    "spec": "specification",
    "environment": "environment",
    "protocol": "rules, stages and weights",
    "cost": "cost",
}
NOTE = (
    "The better value is bold. Within: whether each value lies in the interval that the other run records, over what "
    "is resampled. One run of each says nothing of the spread over seeds: `grasp-bench report` does. These are scores "
    "of whole groups; --json also has the means over their classes and their worst classes."
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
    """Return, for a terminal of 100 columns, whether the runs compare, what differs, and the scores by group."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Text | Table] = [
        Text(printable(f"{side}  {_title(record)}"), style="bold") for side, record in (("A", found.a), ("B", found.b))
    ]
    parts += [Text(), *_verdict(found), Text(f"Streams: {found.streams}."), Text()]
    for part, title in TITLES.items():
        differing = found.fields[part]
        parts.append(difference_table(title, differing) if differing else Text(f"{title}: equal"))
    parts += [_score_table(str(group), each) for group, each in _pooled(found.scores).groupby("group", sort=False)]
    return Group(*parts, Text("neither run has scores" if found.scores.empty else NOTE))


def difference_table(title: str, differing: Iterable[Difference], sides: tuple[str, str] = ("A", "B")) -> Table:
    """Return a table of the fields that differ."""
    table = _table(title, "", *sides)
    for each in differing:
        _add_row(table, each.field, _short(each.field, each.a), _short(each.field, each.b))
    return table


def reproduction_table(scores: pd.DataFrame) -> Table:
    """Return a table of the scores of whole groups, recorded and rerun, and of any other that disagrees."""
    table = _table("scores", "score", "source", "test set", "group", "recorded", "rerun", "", "recorded interval")
    shown_scores = scores.reset_index()
    row: Any
    for row in shown_scores[(shown_scores["scope"] == "group") | (shown_scores["verdict"] == "outside")].itertuples():
        metric = _metric(row)
        name = metric if row.scope == "group" else f"{metric}, {row.scope}"
        interval = ABSENT if row.low_a != row.low_a else f"{row.low_a:.4g} to {row.high_a:.4g} ({row.unit_a})"
        values = (_value(row.value_a, row.n_a), _value(row.value_b, row.n_b))
        _add_row(table, name, row.source, row.test_set, row.group, *values, WORDS[row.verdict], interval)
    return table


def _metric(row: Any) -> str:
    """Return the name of a metric, with the extractor where it is not the task's first."""
    return f"{row.metric}({extractor_label(row.extractor)})" if row.extractor else str(row.metric)


def _pooled(scores: pd.DataFrame) -> pd.DataFrame:
    found = scores.reset_index()
    return found[found["scope"] == "group"]


def _table(title: str, *headings: str) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(printable(title)), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _add_row(table: Table, *cells: str) -> None:
    from rich.text import Text

    table.add_row(*(Text(printable(cell)) for cell in cells))


def _verdict(found: Comparison) -> list[Text]:
    from rich.text import Text

    if found.comparable:
        same = " They are two runs of one specification." if found.same_run else ""
        return [Text(f"Comparable: same task version, budget, backbone and rules.{same}")]
    return [
        Text("NOT comparable, and in no common table:"),
        *(Text(f"  - {printable(reason)}") for reason in found.reasons),
    ]


def _score_table(group: str, scores: pd.DataFrame) -> Table:
    from rich.text import Text

    table = _table(f"scores: {group}", "score", "source", "test set")
    for heading in ("A", "B", "B - A", "within", "resampled"):
        table.add_column(heading, justify="right", no_wrap=True)
    row: Any
    for row in scores.itertuples():
        names = (f"{_metric(row)} {ARROWS[row.direction]}", row.source, row.test_set)
        a, b = _value(row.value_a, row.n_a), _value(row.value_b, row.n_b)
        difference = ABSENT if row.difference != row.difference else f"{row.difference:+.4g}"
        units = ", ".join(dict.fromkeys(each for each in (row.unit_a, row.unit_b) if isinstance(each, str))) or ABSENT
        table.add_row(
            *(Text(printable(name)) for name in names),
            Text(a, style="bold" if row.better == "a" else ""),
            Text(b, style="bold" if row.better == "b" else ""),
            difference,
            _within(row.b_inside_a, row.a_inside_b),
            Text(units),
        )
    return table


def _within(b_inside_a: Any, a_inside_b: Any) -> str:
    """Return in whose interval the other's value lies; either boolean may be missing."""
    import pandas as pd

    inside = [None if pd.isna(each) else bool(each) for each in (b_inside_a, a_inside_b)]
    return ABSENT if inside == [None, None] else WITHIN[bool(inside[0]), bool(inside[1])]


def _value(value: float, n: float) -> str:
    if n != n:
        return ABSENT
    return f"n too small (n={n:.0f})" if value != value else f"{value:.4g}"


def _short(field: str, value: Any) -> str:
    """Return a value as a table shows it; a hash by its first twelve digits."""
    text = shown(value)
    return text[:12] if field.startswith(("stages.", "weights", "git_commit")) else text


def _title(record: RunRecord) -> str:
    return f"{record.label} on {record.task_label}, seed {record.spec.seed}, run {record.run_id[:12]}, {record.status}"


def _named(record: RunRecord) -> dict[str, Any]:
    named = record.model_dump(include={"label", "task_label", "run_id", "status"})
    return named | {"seed": record.spec.seed}
