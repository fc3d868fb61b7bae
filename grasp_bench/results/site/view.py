"""What the page's template shows: cells as text, runs as commands and files."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from grasp_bench.contracts.record import RECORD_NAME
from grasp_bench.results.grids import OTHER_PROTOCOL
from grasp_bench.results.site.boards import Board, Run
from grasp_bench.results.site.charts import ABSENT, BETTER, COSTS
from grasp_bench.results.site.command import run_command
from grasp_bench.results.site.folder import CLASSES, LOG
from grasp_bench.results.site.glossary import COSTS as COST_DEFINITIONS
from grasp_bench.results.site.glossary import Definition, definition
from grasp_bench.results.table import Cell, Leaderboard, MetricTable, Row

ARROWS = {"lower": "↓", "higher": "↑"}
KEPT = (RECORD_NAME, LOG, CLASSES)
"""Files of a run that the page holds."""
MOST_BYTES = 12_000_000  # of runs' files that one page holds
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
    """What it is sorted by."""
    spread: str = ""
    tier: int | None = None
    best: bool = False
    tells: str = ""


@dataclass(frozen=True)
class Line:
    """A row of a leaderboard."""

    label: str
    guidance: str
    statuses: tuple[str, ...]
    says: str
    """Seeds, or why there are no scores."""
    numbers: list[Number] = field(default_factory=list)
    index: int | None = None
    """Decides on the method's colour."""


@dataclass(frozen=True)
class Entry:
    """A run in the list of runs."""

    key: str
    label: str
    seed: int
    status: str
    reason: str
    command: str


def columns(board: Board) -> list[Column]:
    """A column for every metric and group, then for every cost."""
    scores = [
        Column(
            metric.name,
            group,
            metric.label,
            _tells(definition(metric.name), metric.direction),
            ARROWS[metric.direction],
        )
        for metric in board.table.metrics
        for group in metric.groups
    ]
    return scores + [Column(COST, COST, title, _tells(COST_DEFINITIONS[title], "lower")) for title, _ in COSTS]


def _tells(meaning: Definition, direction: str) -> str:
    return f"{meaning.what} {BETTER[direction].capitalize()}."


def lines(board: Board) -> list[Line]:
    """A row for every method, those without scores too."""
    rows = {row.label: row for row in board.table.rows}
    return [
        _line(board, label, rows.get(label)) for label in [*rows, *(each for each in board.runs if each not in rows)]
    ]


def floors(board: Board) -> list[Number]:
    """The row of real images."""
    scores = [
        _plain(metric.floors.get(group), f".{decimals(metric)}f")
        for metric in board.table.metrics
        for group in metric.groups
    ]
    return scores + [Number("")] * len(COSTS)


def decimals(metric: MetricTable) -> int:
    """Decimals that suit the metric's largest mean."""
    means = [abs(cell.mean) for cells in metric.scores.values() for cell in cells.values() if cell.mean is not None]
    largest = max(means, default=0.0)
    return 1 if largest >= 100 else 2 if largest >= 10 else 3


def title(table: Leaderboard) -> str:
    """The task, and the protocol where that alone sets the leaderboard apart from another."""
    return f"{table.task_label} · protocol {table.protocol}" if table.protocol else table.task_label


def conditions(table: Leaderboard) -> str:
    """Version, budget and backbone: what all rows share beside the title."""
    return (
        f"version {table.task_version} · {table.budget} budget · {table.backbone} at revision {table.backbone_revision}"
    )


def notes(table: Leaderboard) -> list[str]:
    """What a reader must know of a leaderboard's numbers."""
    said = [
        "± is half the 95 % interval of the mean over seeds (Student t), from three seeds on. The best mean of a "
        "column is bold.",
    ]
    if table.protocol:
        said.append(OTHER_PROTOCOL)
    if table.tiers:
        said.append(table.tiers)
    if table.streams:
        said.append(table.streams)
    return said


def _line(board: Board, label: str, row: Row | None) -> Line:
    runs = board.runs[label]
    guidance = runs[0].found.record.spec.guidance.name
    statuses = tuple(dict.fromkeys(run.found.record.status for run in runs))
    numbers = [
        _score(metric.scores.get(label, {}).get(group), decimals(metric))
        for metric in board.table.metrics
        for group in metric.groups
    ]
    cost = row.cost if row else None
    numbers += [
        _plain(of(cost), ",.1f" if "seconds" in title else ",.0f") if cost else Number(ABSENT) for title, of in COSTS
    ]
    return Line(label, guidance, statuses, _says(runs, row), numbers, board.indices.get(label))


def _says(runs: list[Run], row: Row | None) -> str:
    failed = [run.found.record for run in runs if not run.finished]
    if row is None:
        return f"{failed[0].status}: {failed[0].reason or 'no reason recorded'}"
    seeds = "1 seed, provisional" if row.provisional else f"{len(row.seeds)} seeds"
    return seeds + "".join(f"; seed {record.spec.seed} {record.status}" for record in failed)


def _score(cell: Cell | None, digits: int) -> Number:
    if cell is None:
        return Number(ABSENT)
    if cell.mean is None:
        return Number("n too small", tells=f"{cell.n} images")
    tells = f"mean over {cell.n_seeds} seed{'s' * (cell.n_seeds > 1)}, {cell.n} images each"
    spread = ""
    if cell.low is not None and cell.high is not None:
        spread = f"± {(cell.high - cell.low) / 2:.{digits}f}"
        tells += f"; 95 % interval {cell.low:.{digits}f} to {cell.high:.{digits}f}"
    return Number(f"{cell.mean:.{digits}f}", cell.mean, spread, cell.tier, cell.best, tells)


def _plain(value: float | None, form: str) -> Number:
    return Number(ABSENT) if value is None else Number(format(value, form), value)


def glossary(boards: list[Board]) -> list[tuple[str, Definition, str]]:
    """Label, meaning and better direction of every metric and cost that the page shows."""
    metrics = {metric.name: metric for board in boards for metric in board.table.metrics}
    terms = [(each.label, definition(name), BETTER[each.direction]) for name, each in metrics.items()]
    return terms + [(title, COST_DEFINITIONS[title], BETTER["lower"]) for title, _ in COSTS] if terms else []


def meanings(boards: list[Board]) -> dict[str, str]:
    """Metric → what is said of it where it is chosen."""
    names = {metric.name: definition(metric.name) for board in boards for metric in board.table.metrics}
    return {name: f"{meaning.what} {meaning.misleads}" for name, meaning in names.items()}


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
    """The runs of a board; ``prefix`` sets their keys apart from other boards'."""
    numbered = ((label, run) for label, runs in board.runs.items() for run in runs)
    for number, (label, run) in enumerate(numbered):
        record, key = run.found.record, f"{prefix}-{number}"
        files.add(key, run.found.folder)
        yield Entry(key, label, run.seed, record.status, record.reason or "", run_command(run.summary))
