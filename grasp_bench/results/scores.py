"""The result of ``grasp-bench score`` as tables and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from grasp_bench.contracts.metric import FeatureMetric
from grasp_bench.metrics.measured import Measured

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

ABSENT = "-"


@dataclass(frozen=True)
class ScoreReport:
    """What was scored, how, and what came out."""

    facts: dict[str, Any]
    """Version, seed, extractor, counts, protocol: as they go into the JSON."""
    scores: list[Measured]
    notes: list[str]
    extractor: str = ""
    """Name of the extractor, for titles; empty where it is not known."""
    inception: bool = False
    """Whether it is Inception with the weights of 2015."""
    units: tuple[str, str] = ("image", "image")
    """What the bootstrap resamples, real and generated."""
    copies: list[dict[str, Any]] = field(default_factory=list)

    def title(self, metric: FeatureMetric) -> str:
        """What a metric is called in the features of this extractor."""
        return metric.title(self.extractor, self.inception)


def json_payload(report: ScoreReport) -> dict[str, Any]:
    """All of it; the scores of a row of the tables are consecutive ``rows`` of the same scope and name."""
    rows = [_json_row(score, report) for score in report.scores]
    return {**report.facts, "rows": rows, "copies": report.copies, "notes": report.notes}


def rich_report(report: ScoreReport, per_class: bool) -> Group:
    """Groups as rows, then intervals, classes if they are asked for, and the notes."""
    from rich.console import Group
    from rich.text import Text

    classes = [score for score in report.scores if score.scope == "class"]
    parts: list[Table | Text] = [*_tables("groups", [s for s in report.scores if s.scope != "class"], report)]
    worst: dict[str, list[str]] = {}
    for score in report.scores:
        if score.worst is not None:
            worst.setdefault(score.name, []).append(f"{report.title(score.metric)} {score.worst}")
    if worst:
        groups = "; ".join(f"{group}: {', '.join(each)}" for group, each in worst.items())
        parts.append(Text(f"Worst classes: {groups}."))
    parts.append(_intervals(report, per_class))
    if per_class and classes:
        parts += _tables("classes", classes, report)
    return Group(*parts, *(Text(note) for note in report.notes))


def number(value: float | None) -> str:
    """Three decimals, fewer for large numbers, and powers of ten for small ones."""
    if value is None:
        return ABSENT
    size = abs(value)
    if size == 0:
        return "0"
    return f"{value:.1e}" if size < 1e-3 else f"{value:.{3 if size < 10 else 2 if size < 100 else 1}f}"


def too_small(score: Measured) -> str:
    """What is shown in place of a number."""
    return f"n too small (n={score.n})"


def _json_row(score: Measured, report: ScoreReport) -> dict[str, Any]:
    metric = score.metric
    named = {"metric": metric.name, "metric_version": metric.version, "label": report.title(metric)}
    row = asdict(score) | named | {"excess": score.excess}
    row["interval_unit"] = "equal-count draw" if score.value is not None else None
    row["reason"] = too_small(score) if score.value is None else None
    if score.bootstrap:
        row["bootstrap"] |= {"real_unit": report.units[0], "fake_unit": report.units[1]}
    return row


def _tables(title: str, scores: Sequence[Measured], report: ScoreReport) -> list[Table]:
    """Metrics of which less is better, then the others: together they are too wide for a terminal."""
    rows: dict[tuple[str, str], dict[str, Measured]] = {}
    for score in scores:
        rows.setdefault((score.scope, score.name), {})[score.metric.name] = score
    metrics = [score.metric for score in next(iter(rows.values())).values()]
    parts = {"distances": "lower", "fidelity, diversity, copies": "higher"}
    chosen = {part: [each for each in metrics if each.direction == way] for part, way in parts.items()}
    return [_table(f"{title}: {part}", list(rows.values()), each, report) for part, each in chosen.items() if each]


def _empty(title: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _table(
    title: str, rows: Sequence[dict[str, Measured]], metrics: Sequence[FeatureMetric], report: ScoreReport
) -> Table:
    """A row for each group or class; real references stand beside distances, and below other scores."""
    from rich.text import Text

    beside = metrics[0].direction == "lower"
    table = _empty(title)
    table.add_column("", overflow="fold", min_width=24)
    table.add_column("n", justify="right", no_wrap=True)
    for metric in metrics:
        error = " ± se" if any(row[metric.name].standard_error is not None for row in rows) else ""
        for heading in (report.title(metric) + error, *(("real reference", "excess") if beside else ())):
            table.add_column(Text(_narrow(heading)), justify="right", min_width=5)
    for row in rows:
        first, found = next(iter(row.values())), [row[metric.name] for metric in metrics]
        if first.value is None:
            table.add_row(Text(_row_name(first)), Text(too_small(first)))
            continue
        cells = [_row_name(first), str(first.n)]
        for score in found:
            error = f" ± {number(score.standard_error)}" if beside and score.standard_error is not None else ""
            cells.append(number(score.value) + error)
            cells += [number(score.reference), number(score.excess)] if beside else []
        table.add_row(*map(Text, cells))
        if not beside:
            table.add_row("  real reference", "", *(number(score.reference) for score in found), style="dim")
    return table


def _narrow(heading: str) -> str:
    """A heading in lines of one word, long ones hyphenated."""
    words = heading.replace("(", " (").replace(" ± ", " ±").split()
    return "\n".join(f"{word[:6]}-\n{word[6:]}" if len(word) > 10 and word.isalpha() else word for word in words)


def _row_name(score: Measured) -> str:
    if score.scope == "class mean":
        return f"  mean of {score.classes_scored} of {score.classes} classes"
    return "  worst class" if score.scope == "worst class" else score.name


def _intervals(report: ScoreReport, per_class: bool) -> Table:
    from rich.text import Text

    shown = [
        score
        for score in report.scores
        if (score.scope == "group" or score.bootstrap) and (per_class or score.scope != "class")
    ]
    table = _empty("intervals, 2.5 to 97.5 %")
    own, bootstrapped = any(score.exact for score in shown), any(score.bootstrap for score in shown)
    for heading in (
        *("group", "score", "value", "equal-count draws"),
        *(("its own",) if own else ()),
        *(("bootstrap", "units: real, generated") if bootstrapped else ()),
    ):
        table.add_column(heading, overflow="fold")
    for score in shown:
        name = score.name if score.scope in ("group", "class") else f"{score.name}, {score.scope}"
        cells = [name, report.title(score.metric), number(score.value), f"{number(score.low)} to {number(score.high)}"]
        if own:
            cells.append(" to ".join(map(number, score.exact)) if score.exact else ABSENT)
        if (found := score.bootstrap) is not None:
            real, fake = report.units
            cells.append(found.reason or f"{number(found.low)} to {number(found.high)}")
            cells.append(f"{found.real_units} ({real}), {found.fake_units} ({fake})")
        table.add_row(*map(Text, cells))
    return table
