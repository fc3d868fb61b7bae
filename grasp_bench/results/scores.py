"""The result of ``grasp-bench score`` as tables and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from grasp_bench.metrics.score import Score

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

TITLES = {
    "precision": "preci-\nsion",
    "recall": "recall",
    "density": "den-\nsity",
    "coverage": "cover-\nage",
    "vendi": "Vendi",
    "irs": "IRS",
    "irs_adjusted": "IRS ad-\njusted",
    "authenticity": "authen-\nticity",
}
DISTANCES = ("fd", "fd_inf", "kid")
ABSENT = "-"


@dataclass(frozen=True)
class ScoreReport:
    """What was scored, how, and what came out."""

    facts: dict[str, Any]
    """Version, seed, extractor, counts, protocol: as they go into the JSON."""
    scores: list[Score]
    scores_names: tuple[str, ...]
    notes: list[str]
    distance: str
    """FID, or FD(extractor)."""
    kernel: str
    """KID, or KD(extractor)."""
    units: tuple[str, str] = ("image", "image")
    """What the bootstrap resamples, real and generated."""
    copies: list[dict[str, Any]] = field(default_factory=list)


def json_payload(report: ScoreReport) -> dict[str, Any]:
    """All of it; every row of the tables is a run of ``rows`` with the same kind and name."""
    return {
        **report.facts,
        "rows": [_json_row(score, report) for score in report.scores],
        "copies": report.copies,
        "notes": report.notes,
    }


def rich_report(report: ScoreReport, per_class: bool) -> Group:
    """Groups as rows, then intervals, classes if they are asked for, and the notes."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Table | Text] = [*_tables("groups", [s for s in report.scores if s.kind != "class"], report)]
    if worst := _worst(report.scores, report):
        parts.append(Text(f"Worst classes: {worst}."))
    parts.append(_intervals(report, per_class))
    if per_class and (classes := [score for score in report.scores if score.kind == "class"]):
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


def _json_row(score: Score, report: ScoreReport) -> dict[str, Any]:
    row = {**asdict(score), "label": _label(score.metric, report), "excess": score.excess}
    row["interval_unit"] = "equal-count draw" if score.value is not None else None
    row["reason"] = too_small(score) if score.value is None else None
    if score.bootstrap:
        row["bootstrap"] |= {"real_unit": report.units[0], "fake_unit": report.units[1]}
    return row


def too_small(score: Score) -> str:
    """What is shown in place of a number."""
    return f"n too small (n={score.n})"


def _label(metric: str, report: ScoreReport) -> str:
    infinite = report.distance.replace("D", "D∞", 1)
    labels = {"fd": report.distance, "fd_inf": infinite, "kid": report.kernel, "vendi": "Vendi", "irs": "IRS"}
    return (labels | {"irs_adjusted": "IRS adjusted"}).get(metric, metric)


def _row_name(score: Score) -> str:
    if score.kind == "class mean":
        return f"  mean of {score.classes_scored} of {score.classes} classes"
    return "  worst class" if score.kind == "worst class" else score.name


def _tables(title: str, scores: Sequence[Score], report: ScoreReport) -> list[Table]:
    """The distances, then the other scores: together they are too wide for a terminal."""
    parts = {"distances": DISTANCES, "fidelity, diversity, copies": tuple(TITLES)}
    chosen = {part: [name for name in report.scores_names if name in names] for part, names in parts.items()}
    return [_table(f"{title}: {part}", scores, names, report) for part, names in chosen.items() if names]


def _table(title: str, scores: Sequence[Score], names: Sequence[str], report: ScoreReport) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", overflow="fold", min_width=20)
    headings = [heading for name in names for heading in _headings(name, report)]
    for heading in ("n", *headings):
        table.add_column(Text(heading), justify="right", no_wrap=True)
    for rows in _by_row(scores):
        first = next(iter(rows.values()))
        if first.value is None:
            table.add_row(Text(_row_name(first)), Text(too_small(first)), *[ABSENT] * len(headings))
            continue
        cells = [cell for name in names for cell in _cells(rows[name])]
        table.add_row(Text(_row_name(first)), str(first.n), *map(Text, cells))
        if not set(DISTANCES) & set(names):  # these have their floor beside them
            floors = [number(rows[name].floor) for name in names]
            table.add_row(Text("  floor", style="dim"), "", *(Text(each, style="dim") for each in floors))
    return table


def _headings(name: str, report: ScoreReport) -> tuple[str, ...]:
    if name in DISTANCES:
        title = _label(name, report).replace("(", "\n(")
        return title + " ± se" * (name == "kid"), "floor", "excess"
    return (TITLES[name],)


def _cells(score: Score) -> tuple[str, ...]:
    error = f" ± {number(score.standard_error)}" if score.standard_error is not None else ""
    value = number(score.value) + error
    return (value, number(score.floor), number(score.excess)) if score.metric in DISTANCES else (value,)


def _by_row(scores: Sequence[Score]) -> list[dict[str, Score]]:
    rows: dict[tuple[str, str], dict[str, Score]] = {}
    for score in scores:
        rows.setdefault((score.kind, score.name), {})[score.metric] = score
    return list(rows.values())


def _worst(scores: Sequence[Score], report: ScoreReport) -> str:
    by_group: dict[str, list[str]] = {}
    for score in scores:
        if score.worst is not None:
            by_group.setdefault(score.name, []).append(f"{_label(score.metric, report)} {score.worst}")
    return "; ".join(f"{group}: {', '.join(each)}" for group, each in by_group.items())


def _intervals(report: ScoreReport, per_class: bool) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    pooled = [score for score in report.scores if score.kind == "group" or score.bootstrap]
    if not per_class:
        pooled = [score for score in pooled if score.kind != "class"]
    bootstrapped = any(score.bootstrap for score in pooled)
    own = any(score.exact for score in pooled)
    table = Table(title="intervals, 2.5 to 97.5 %", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    headings = ["group", "score", "value", "equal-count draws"] + ["its own"] * own
    if bootstrapped:
        headings += ["bootstrap", "units: real, generated"]
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for score in pooled:
        cells = [_interval_name(score), _label(score.metric, report), number(score.value), _span(score.low, score.high)]
        if own:
            cells.append(_span(*score.exact) if score.exact else ABSENT)
        if (found := score.bootstrap) is not None:
            real, fake = report.units
            cells += [
                found.reason or _span(found.low, found.high),
                f"{found.real_units} ({real}), {found.fake_units} ({fake})",
            ]
        elif bootstrapped:
            cells += [ABSENT, ABSENT]
        table.add_row(*map(Text, cells))
    return table


def _interval_name(score: Score) -> str:
    return score.name if score.kind in ("group", "class") else f"{score.name}, {score.kind}"


def _span(low: float | None, high: float | None) -> str:
    return f"{number(low)} to {number(high)}"
