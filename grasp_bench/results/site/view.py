"""What the page's template shows: cells as text, runs as commands and files."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grasp_bench.contracts.record import ARROWS, RECORD_NAME
from grasp_bench.results.board import Leaderboard
from grasp_bench.results.site.boards import Board, Metric, Run
from grasp_bench.results.site.charts import ABSENT, BETTER, COSTS
from grasp_bench.results.site.command import run_command
from grasp_bench.results.site.glossary import COSTS as COST_DEFINITIONS
from grasp_bench.results.site.glossary import Definition, definition
from grasp_bench.results.tables import OTHER_PROTOCOL, PROVISIONAL, decimals
from grasp_bench.run.files import CLASSES, TRAIN_LOG

KEPT = (RECORD_NAME, TRAIN_LOG, CLASSES)
"""Files of a run that the page holds."""
MOST_BYTES = 12_000_000  # of runs' files on one page
COST = "cost"


@dataclass(frozen=True)
class Column:
    """A column of numbers."""

    metric: str
    group: str
    label: str
    tells: str
    arrow: str = ""


@dataclass(frozen=True)
class Number:
    """A cell of a table."""

    text: str
    value: float | None = None
    """Number that the cell is sorted by."""
    spread: str = ""
    tier: int | None = None
    best: bool = False
    tells: str = ""


@dataclass(frozen=True)
class Named:
    """What tells a row from others, in columns."""

    method: str
    guidance: str
    settings: str


@dataclass(frozen=True)
class Line:
    """A row of a leaderboard."""

    label: str
    named: Named
    seeds: str
    statuses: tuple[str, ...]
    problems: str
    """Why runs have no scores."""
    numbers: list[Number] = field(default_factory=list)
    index: int | None = None
    """Number that decides on the method's colour; None without scores."""


@dataclass(frozen=True)
class Entry:
    """A run in the list of runs."""

    key: str
    label: str
    named: Named
    seed: int
    status: str
    reason: str
    command: str


def _named(board: Board, label: str) -> Named:
    row = board.rows[label]
    variant = label.partition(" #")[2]  # of two versions of a method
    tuned = f"tuned={row['tuned']}" if row["tuned"] else ""
    settings = [tuned, row["settings"], row["versions"], f"#{variant}" if variant else ""]
    return Named(row["method"], row["guidance"], ", ".join(filter(None, settings)))


def columns(board: Board) -> list[Column]:
    """Return a column for every metric and group, then for every cost."""
    scores = [
        Column(metric.key, group, metric.label, _tells(_meaning(metric), metric.direction), ARROWS[metric.direction])
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
        numbers += [
            _plain(spent[name] if spent else None, ",.1f" if "seconds" in title else ",.0f")
            for name, title in COSTS.items()
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
        _named(board, label),
        PROVISIONAL if len(seeds) == 1 else str(len(seeds)),
        tuple(dict.fromkeys(run.record.status for run in runs)),
        "; ".join(problems),
        numbers,
        board.indices.get(label),
    )


def references(board: Board) -> list[Number]:
    """Return the row of real images."""
    scores = [
        _plain(metric.references.get(group), f".{decimals(metric.cells['mean'])}f")
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
        "column is bold.",
    ]
    return said + [each for each in (OTHER_PROTOCOL * bool(table.protocol), table.tiers, table.streams) if each]


def _score(cell: Any, digits: int) -> Number:
    if cell is None:
        return Number(ABSENT)
    if cell.mean != cell.mean:  # NaN
        return Number("n too small", tells=f"{cell.n} images")
    tells = f"mean over {cell.n_seeds} seed{'s' * (cell.n_seeds > 1)}, {cell.n} images each"
    spread = ""
    if cell.low == cell.low:
        spread = f"± {(cell.high - cell.low) / 2:.{digits}f}"
        tells += f"; 95 % interval {cell.low:.{digits}f} to {cell.high:.{digits}f}"
    tier = int(cell.tier) if cell.tier == cell.tier else None
    return Number(f"{cell.mean:.{digits}f}", cell.mean, spread, tier, bool(cell.best), tells)


def _plain(value: float | None, form: str) -> Number:
    return Number(ABSENT) if value is None or value != value else Number(format(value, form), value)


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


class Files:
    """The runs' files that the page holds, compressed: as many as fit."""

    def __init__(self) -> None:
        self.held: dict[str, dict[str, str]] = {}
        """Key of the run → file name → gzip in base64."""
        self.left, self.left_out = MOST_BYTES, 0

    def add(self, key: str, folder: Path) -> None:
        """Hold the files of the run ``key``, unless they no longer fit."""
        packed = {name: _packed(folder / name) for name in KEPT if (folder / name).is_file()}
        size = sum(map(len, packed.values()))
        if size > self.left:
            self.left_out += 1
            return
        self.left -= size
        self.held[key] = packed


def _packed(path: Path) -> str:
    return base64.b64encode(gzip.compress(path.read_bytes(), mtime=0)).decode()


def entries(board: Board, prefix: str, files: Files) -> Iterator[Entry]:
    """Yield the runs of a board; ``prefix`` tells their keys from those of other boards."""
    numbered: list[tuple[str, Run]] = [(label, run) for label, runs in board.runs.items() for run in runs]
    for number, (label, run) in enumerate(numbered):
        record, key = run.record, f"{prefix}-{number}"
        files.add(key, run.found.folder)
        yield Entry(key, label, _named(board, label), run.seed, record.status, record.reason or "", run_command(record))
