"""A comparison as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from grasp_bench.contracts.record import RunRecord, Score
from grasp_bench.results.sharing.compare import Comparison, ScorePair
from grasp_bench.results.sharing.differences import Difference, shown
from grasp_bench.results.text import printable

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from grasp_bench.results.sharing.reproduce import Agreement

ABSENT = "-"
ARROWS = {"lower": "↓", "higher": "↑"}
WORDS = {"equal": "equal", "within": "agrees", "outside": "DISAGREES"}
NOTE = (
    "The better value is bold. Within: whether each value lies in the interval that the other run records, over what "
    "is redrawn. One run of each says nothing of the spread over seeds: `grasp-bench report` does. These are scores of "
    "groups' images; --json has those of their classes, too."
)


def json_payload(found: Comparison) -> dict[str, Any]:
    """All of it, nested as :class:`Comparison` is, with what the two runs are called in place of their records."""
    payload = {name: value for name, value in vars(found).items() if name not in ("a", "b", "scores")}
    lists = {name: [asdict(each) for each in payload[name]] for name in ("spec", "environment", "protocol", "cost")}
    names = {side: _named(record) for side, record in (("a", found.a), ("b", found.b))}
    return {**names, "comparable": found.comparable, **payload, **lists, "scores": [_json(one) for one in found.scores]}


def rich_comparison(found: Comparison) -> Group:
    """For a terminal of 100 columns: whether they compare at all, what differs, and the scores, group by group."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Text | Table] = [
        *(
            Text(printable(f"{side}  {_title(record)}"), style="bold")
            for side, record in (("A", found.a), ("B", found.b))
        ),
        Text(),
        *_verdict(found),
        Text(f"Streams: {found.streams}."),
        Text(),
    ]
    for title, differences in (
        ("specification", found.spec),
        ("environment", found.environment),
        ("rules, stages and weights", found.protocol),
        ("cost", found.cost),
    ):
        parts.append(difference_table(title, differences) if differences else Text(f"{title}: equal"))
    pooled = [pair for pair in found.scores if pair.scope == "group"]
    groups = dict.fromkeys(pair.group for pair in pooled)
    parts += [_score_table(group, [pair for pair in pooled if pair.group == group]) for group in groups]
    return Group(*parts, Text(NOTE if found.scores else "neither run has scores"))


def difference_table(title: str, differences: Iterable[Difference], sides: tuple[str, str] = ("A", "B")) -> Table:
    """Fields that differ, side by side."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("", *sides):
        table.add_column(heading, overflow="fold")
    for each in differences:
        table.add_row(*(Text(printable(text)) for text in (each.field, _short(each, each.a), _short(each, each.b))))
    return table


def reproduction_table(scores: Sequence[Agreement]) -> Table:
    """The scores of groups' images, recorded and anew, and any other that disagrees."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title="scores", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", overflow="fold")
    for heading in ("group", "recorded", "anew", "", "recorded interval"):
        table.add_column(heading, overflow="fold")
    for score in scores:
        if score.scope == "group" or score.verdict == "outside":
            name = score.name if score.scope == "group" else f"{score.name}, {score.scope}"
            words = (name, score.group, _value(score.recorded), _value(score.anew), WORDS[score.verdict])
            table.add_row(*map(Text, map(printable, words)), Text(_span(score.recorded)))
    return table


def _span(metric: Score | None) -> str:
    if metric is None or metric.interval is None:
        return ABSENT
    found = metric.interval
    return f"{found.low:.4g} to {found.high:.4g} ({found.unit})"


def _verdict(found: Comparison) -> list[Text]:
    from rich.text import Text

    if found.comparable:
        same = " They are one specification, carried out twice." if found.same_run else ""
        return [Text(f"Comparable: same task version, budget, backbone and rules.{same}")]
    return [
        Text("NOT comparable, and in no common table:"),
        *(Text(f"  - {printable(reason)}") for reason in found.reasons),
    ]


def _score_table(group: str, pairs: Sequence[ScorePair]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(printable(f"scores: {group}")), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("", overflow="fold")
    for heading in ("A", "B", "B - A", "within", "redrawn"):
        table.add_column(heading, justify="right", no_wrap=True)
    for pair in pairs:
        styles = ["bold" if pair.better == side else "" for side in ("a", "b")]
        table.add_row(
            Text(printable(f"{pair.name} {ARROWS[pair.direction]}")),
            Text(_value(pair.a), style=styles[0]),
            Text(_value(pair.b), style=styles[1]),
            ABSENT if pair.difference is None else f"{pair.difference:+.4g}",
            _within(pair),
            Text(_unit(pair)),
        )
    return table


def _value(metric: Score | None) -> str:
    if metric is None:
        return ABSENT
    return f"n too small (n={metric.n})" if metric.value is None else f"{metric.value:.4g}"


def _within(pair: ScorePair) -> str:
    if pair.b_inside_a is None and pair.a_inside_b is None:
        return ABSENT
    named = {(True, True): "both", (True, False): "A's", (False, True): "B's"}
    return named.get((bool(pair.b_inside_a), bool(pair.a_inside_b)), "neither")


def _unit(pair: ScorePair) -> str:
    intervals = [metric.interval for metric in (pair.a, pair.b) if metric and metric.interval]
    return ", ".join(dict.fromkeys(interval.unit for interval in intervals)) or ABSENT


def _short(difference: Difference, value: Any) -> str:
    """A hash by its first twelve digits."""
    text = shown(value)
    return text[:12] if difference.field.startswith(("stages.", "weights", "git_commit")) else text


def _title(record: RunRecord) -> str:
    return f"{record.label} on {record.task_label}, seed {record.spec.seed}, run {record.run_id[:12]}, {record.status}"


def _named(record: RunRecord) -> dict[str, Any]:
    return {
        "label": record.label,
        "task_label": record.task_label,
        "seed": record.spec.seed,
        "run_id": record.run_id,
        "status": record.status,
    }


def _json(pair: ScorePair) -> dict[str, Any]:
    metrics = {side: metric and metric.model_dump(mode="json") for side, metric in (("a", pair.a), ("b", pair.b))}
    return vars(pair) | metrics
