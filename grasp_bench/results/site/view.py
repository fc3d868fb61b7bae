"""What the page's template shows: cells as text, runs as commands and files."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from grasp_bench import plugins
from grasp_bench.contracts.entry import facts_in
from grasp_bench.contracts.record import ARROWS, RunRecord
from grasp_bench.results.board import Leaderboard
from grasp_bench.results.divisions import declared_words, open_rows
from grasp_bench.results.grids import decimals, half_text, number_text
from grasp_bench.results.site.beside import Files
from grasp_bench.results.site.boards import Board, Metric
from grasp_bench.results.site.charts import ABSENT, BETTER, COSTS
from grasp_bench.results.site.glossary import COSTS as COST_DEFINITIONS
from grasp_bench.results.site.glossary import Definition, definition
from grasp_bench.results.sizes import marked
from grasp_bench.results.tables import OTHER_PROTOCOL, counted_seeds

COST = "cost"
ONE_ROW = (
    "A method's row is that of its chosen guidance, with settings that a search chose where there was one, and none "
    "changed by hand."
)


@dataclass(frozen=True)
class Column:
    """A column of numbers."""

    metric: str
    group: str
    label: str
    tells: str
    arrow: str = ""
    main: bool = True
    """Whether a browser without script shows it."""


@dataclass(frozen=True)
class Number:
    """A cell of a table."""

    text: str
    value: float | None = None
    """Number that the cell is sorted by."""
    spread: str = ""
    rank: str = ""
    """Best and worst rank that the row may have in a primary metric, with a star where it could be best."""
    best: bool = False


@dataclass(frozen=True)
class Line:
    """A row of a leaderboard."""

    label: str
    method: str
    guidance: str
    settings: str
    seeds: str
    division: str
    declared: str
    """What an open row declares of how its images were made; empty for closed ones."""
    problems: str
    """Why runs have no scores."""
    numbers: list[Number] = field(default_factory=list)
    index: int | None = None
    """Number that decides on the method's colour; None without scores."""


@dataclass(frozen=True)
class Entry:
    """A run in the list of runs."""

    key: str
    name: str
    method: str
    guidance: str
    settings: str
    seed: int
    status: str
    reason: str
    command: str


def columns(board: Board) -> list[Column]:
    """Return a column for every metric and group, then for every cost."""
    main = {metric.key for metric in board.main}
    scores = [
        Column(
            metric.key,
            group,
            metric.label,
            _tells(_meaning(metric), metric.direction),
            ARROWS[metric.direction],
            metric.key in main,
        )
        for metric in board.metrics
        for group in metric.groups
    ]
    return scores + [Column(COST, COST, title, _tells(COST_DEFINITIONS[title], "lower")) for title in COSTS.values()]


def _meaning(metric: Metric) -> Definition:
    return definition(metric.place["metric"], metric.place["source"], metric.place["test_set"])


def _tells(meaning: Definition, direction: str) -> str:
    return f"{meaning.what} {BETTER[direction].capitalize()}."


def lines(board: Board) -> list[Line]:
    """Return a row for every method, those without scores too."""
    cells = [
        (decimals(metric.cells["mean"]), dict(zip(metric.cells.index, metric.cells.itertuples(), strict=True)), metric)
        for metric in board.metrics
    ]
    costs = board.costs.to_dict("index")
    found = []
    for label in [*board.indices, *(each for each in board.runs if each not in board.indices)]:
        numbers = [
            _score(drawn.get((label, group)), digits) for digits, drawn, metric in cells for group in metric.groups
        ]
        spent = costs.get(label)
        declared = facts_in(spent["declared"]).costs if spent else {}
        numbers += [
            _cost(name, spent[name] if spent else None, declared.get(name), board.table.parameters) for name in COSTS
        ]
        found.append(_line(board, label, numbers))
    return found


def _line(board: Board, label: str, numbers: list[Number]) -> Line:
    runs = board.runs[label]
    seeds = [run.seed for run in runs if run.finished]
    failed = [run.record for run in runs if not run.finished]
    problems = [f"seed {each.spec.seed} {each.status}: {each.reason or 'no reason recorded'}" for each in failed]
    return Line(
        label,
        *_named(board, label),
        counted_seeds(seeds),
        runs[0].record.division,
        declared_words(run.record.entry.declared for run in runs if run.record.entry),
        "; ".join(problems),
        numbers,
        board.indices.get(label),
    )


def references(board: Board) -> list[Number]:
    """Return the row of real images."""
    scores = [
        _plain(metric.references.get(group), partial(number_text, digits=decimals(metric.cells["mean"])))
        for metric in board.metrics
        for group in metric.groups
    ]
    return scores + [Number("")] * len(COSTS)


def title(table: Leaderboard) -> str:
    """Return the task, and the protocol where that alone tells the leaderboard from another."""
    return f"{table.task_label} · protocol {table.protocol}" if table.protocol else table.task_label


def conditions(table: Leaderboard) -> str:
    """Return the version, budget and backbone that all rows share."""
    backbone = f"{table.backbone} at revision {table.backbone_revision}"
    parts = (f"version {table.task_version}", f"{table.budget} budget", backbone, table.pixels, table.caution)
    return " · ".join(part for part in parts if part)


def notes(table: Leaderboard) -> list[str]:
    """Return what a reader must know of a leaderboard's numbers."""
    said = [
        "± is half the 95 % interval of the mean over seeds (Student t), from three seeds on. The best mean of a "
        "column is bold. Ranks, best means and differences are of one row per method.",
        ONE_ROW,
    ]
    others = (OTHER_PROTOCOL * bool(table.protocol), *table.said, open_rows(table), table.sizes, table.streams)
    return said + [each for each in others if each]


def _score(cell: Any, digits: int) -> Number:
    if cell is None:
        return Number(ABSENT)
    if cell.mean != cell.mean:  # NaN
        return Number("n too small")
    star = "*" if cell.primary and cell.could_be_best else ""
    rank = f"{cell.rank_low:.0f}–{cell.rank_high:.0f}{star}" if cell.primary else ""  # noqa: RUF001
    spread = half_text(cell.low, cell.high, digits)
    return Number(number_text(cell.mean, digits), cell.mean, spread, rank, bool(cell.best))


def _plain(value: float | None, text: Callable[[float], str]) -> Number:
    return Number(ABSENT) if value is None or value != value else Number(text(value), value)


def _cost(name: str, value: float | None, declared: float | None, budget: int | None) -> Number:
    """Return a cost as it was measured, or else as it was declared, which it says."""
    form = ",.1f" if name.endswith("seconds") else ",.0f"
    measured = _plain(value, lambda spent: format(spent, form))
    if measured.value is not None:
        return replace(measured, text=marked(measured.text, name, measured.value, budget))
    if declared is None:
        return measured
    return Number(format(declared, form), declared, spread="declared")


def glossary(boards: list[Board]) -> list[tuple[str, Definition, str]]:
    """Return label, meaning and better direction of every metric and cost that the page shows."""
    metrics = {metric.key: metric for board in boards for metric in board.metrics}
    terms = [(each.label, _meaning(each), BETTER[each.direction]) for each in metrics.values()]
    costs = [(title, COST_DEFINITIONS[title], BETTER["lower"]) for title in COSTS.values()]
    return terms + costs if terms else []


def meanings(boards: list[Board]) -> dict[str, str]:
    """Return metric → the text shown where it is chosen."""
    metrics = {metric.key: _meaning(metric) for board in boards for metric in board.metrics}
    return {key: f"{meaning.what} {meaning.misleads}" for key, meaning in metrics.items()}


def entries(board: Board, prefix: str, files: Files) -> Iterator[Entry]:
    """Yield the runs of a board; ``prefix`` tells their keys from those of other boards."""
    numbered = [(label, run) for label, runs in board.runs.items() for run in runs]
    for number, (label, run) in enumerate(numbered):
        record, key = run.record, f"{prefix}-{number}"
        files.add(key, run.found.folder)
        reason, command = record.reason or "", run_command(record)
        yield Entry(key, board.names[label], *_named(board, label), run.seed, record.status, reason, command)


def _named(board: Board, label: str) -> tuple[str, str, str]:
    """Return method, guidance and settings of a row."""
    return board.rows[label]["method"], board.rows[label]["guidance"], board.settings[label]


def run_command(record: RunRecord) -> str:
    """Return ``grasp-bench run …`` with every setting that is not the default.

    A record holds no paths: a task that a file describes is FILE.toml, and the user's own weights are FOLDER.
    """
    words = record.spec.command(
        record.changed,
        task=None if record.spec.task.name in plugins.entries("tasks") else "FILE.toml",
        backbone=None if record.default_backbone else record.backbone_label,
        tuned=record.tuned is not None,
    )
    return shlex.join(words)
