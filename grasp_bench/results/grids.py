"""A report as tables of text, before any format: what terminal, markdown and LaTeX have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from grasp_bench.contracts.record import ARROWS
from grasp_bench.results.across import Across
from grasp_bench.results.board import METRIC, Leaderboard
from grasp_bench.results.build import Report
from grasp_bench.results.differences import Differences

if TYPE_CHECKING:
    import pandas as pd

ABSENT = "-"
MINUS = "\N{MINUS SIGN}"
REFERENCE = "real reference"
NOTE = (
    "Mean ± half the 95 % interval over seeds (Student t; from three seeds on); provisional: one seed; real reference: "
    "real images against held-out real ones."
)
PROVISIONAL = "1, provisional"
OTHER_PROTOCOL = (
    "Another table has the same heading but for the protocol: other versions of what decides scores, so that the two "
    "do not compare; `grasp-bench compare` says which."
)
COSTS = {
    "trainable_parameters": ("trainable parameters", ",.0f"),
    "train_seconds": ("training s", ".1f"),
    "seconds_per_step": ("s/step", ".3f"),
    "peak_memory_mib": ("peak memory MiB", ",.0f"),
    "checkpoint_mib": ("weights MiB", ".2f"),
    "network_evaluations_per_image": ("NFE per image", ".0f"),
    "backward_passes_per_image": ("backward passes per image", ".0f"),
    "gflops_per_image": ("GFLOPs per image", ",.3g"),
}
"""Column of the costs → its title and how its numbers are written."""


class Text(NamedTuple):
    """A cell of a printed table."""

    text: str
    bold: bool = False
    tier: int | None = None
    """Shown raised."""


@dataclass(frozen=True)
class Grid:
    """A table ready to print: the first ``names`` columns are words, the others are numbers."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[Text]]
    names: int = 1
    caption: str = ""
    """What the title leaves to its surroundings: for a table that stands alone."""


@dataclass(frozen=True)
class Section:
    """Tables under a heading, and what a reader must know of them."""

    heading: str
    grids: list[Grid]
    notes: list[str]


def sections(report: Report) -> list[Section]:
    """Return one section per leaderboard, with differences to the baseline, and one for the comparison over tasks."""
    found = [_section(board, differences) for board, differences in report.compared]
    return [*found, _across(report.across_tasks)] if report.across_tasks else found


def decimals(values: Iterable[float]) -> int:
    """Return the decimals that suit the largest of ``values``; NaN counts for nothing."""
    largest = max((abs(value) for value in values if value == value), default=0.0)
    return 1 if largest >= 100 else 2 if largest >= 10 else 3


def score(mean: float, low: float, high: float, n: int, digits: int) -> str:
    """Return mean and half the interval, or that there are too few images where the mean is NaN."""
    if mean != mean:
        return f"n too small (n={n})"
    return f"{mean:.{digits}f}" if low != low else f"{mean:.{digits}f} ± {(high - low) / 2:.{digits}f}"


def heading(board: Leaderboard) -> str:
    """Return task, version, budget and backbone: what all rows share."""
    protocol = f" · protocol {board.protocol}" if board.protocol else ""
    return (
        f"{board.task_label} · version {board.task_version} · {board.budget} budget · "
        f"{board.backbone}@{board.backbone_revision}{protocol}"
    )


def _section(board: Leaderboard, compared: Differences | None) -> Section:
    names = _Names(board)
    grids = [_metric_grid(table, names, board) for table in board.tables]
    if compared and len(compared.found):
        grids.append(_difference_grid(compared, names, board.task_label))
    if len(board.costs):
        rows = [[*names.of(row["label"]), *_costs(row)] for row in board.costs.to_dict("records")]
        columns = (*names.columns, *(title for title, _ in COSTS.values()))
        grids.append(Grid("cost", columns, rows, len(names.columns), heading(board)))
    if len(board.problems):
        shown = ["label", "seed", "status", "reason"]
        rows = [[Text(str(cell)) for cell in row] for row in board.problems[shown].itertuples(index=False)]
        grids.append(Grid("without scores", tuple(shown), rows, names=4, caption=heading(board)))
    return Section(heading(board), grids, _notes(board, compared, names))


class _Names:
    """The columns that say what a row is: the method, its guidance, its settings where some row has any, its seeds."""

    def __init__(self, board: Leaderboard) -> None:
        rows = board.costs.fillna({"tuned": ""})
        searches = set(rows["tuned"])
        self.tuned = searches.pop() if len(searches) == 1 else ""
        """Trials of the search that chose the settings of every row; empty where rows differ, which then say it."""
        told = rows["tuned"].map(lambda trials: f"tuned={trials}" if trials and not self.tuned else "")
        version = rows["label"].str.extract(r"( #[0-9a-f]{8})$")[0].fillna("")
        settings = [
            ", ".join(filter(None, each)) for each in zip(rows["settings"], told, version.str.strip(), strict=True)
        ]
        seeds = [PROVISIONAL if len(each) == 1 else str(len(each)) for each in rows["seeds"]]
        shown = {"method": rows["method"], "guidance": rows["guidance"], "settings": settings, "seeds": seeds}
        if not any(settings):
            del shown["settings"]
        self.columns = tuple(shown)
        cells = zip(*shown.values(), strict=True)
        self._rows: dict[str, list[Text]] = dict(
            zip(rows["label"], ([Text(each) for each in row] for row in cells), strict=True)
        )

    def of(self, label: str) -> list[Text]:
        """Return the cells of a row."""
        return self._rows[label]

    def reference(self) -> list[Text]:
        """Return the cells of the row of real images."""
        return [Text(REFERENCE), *[Text("")] * (len(self.columns) - 1)]

    def shared(self) -> tuple[str, ...]:
        """Return the columns of tables in which seeds stand elsewhere."""
        return self.columns[:-1]


def _notes(board: Leaderboard, compared: Differences | None, names: _Names) -> list[str]:
    notes = [NOTE] if len(board.cells) else []
    if names.tuned:
        notes.append(f"Settings of every method were chosen by a search of {names.tuned} trials.")
    if board.protocol:
        notes.append(OTHER_PROTOCOL)
    if board.sorted_by:
        notes.append(f"Rows are sorted by {board.sorted_by}.")
    if board.tiers:
        notes.append(board.tiers)
    if compared:
        notes += [f"Differences to {compared.baseline}: {note}" for note in compared.notes]
    return [*notes, board.streams] if board.streams else notes


def _metric_grid(table: pd.DataFrame, names: _Names, board: Leaderboard) -> Grid:
    digits, groups, first = decimals(table["mean"]), list(dict.fromkeys(table["group"])), table.iloc[0]
    by_row: dict[str, dict[str, Text]] = {}
    columns = ("label", "group", "mean", "low", "high", "n", "best", "tier")
    for label, group, mean, low, high, n, best, tier in zip(*(table[name] for name in columns), strict=True):
        raised = None if tier != tier else int(tier)
        by_row.setdefault(label, {})[group] = Text(score(mean, low, high, n, digits), bool(best), raised)
    rows = [
        [*names.of(label), *(cells.get(group, Text(ABSENT)) for group in groups)] for label, cells in by_row.items()
    ]
    found = board.references.merge(table.iloc[:1][METRIC], on=METRIC).set_index("group")["reference"]
    if len(found):
        real = [f"{found[group]:.{digits}f}" if group in found else ABSENT for group in groups]
        rows.append([*names.reference(), *map(Text, real)])
    title = f"{first['title']} {ARROWS[first['direction']]}"
    caption = f"{heading(board)}; {_seeds(board.costs)}. {NOTE}"
    return Grid(title, (*names.columns, *groups), rows, len(names.columns), caption)


def _seeds(rows: pd.DataFrame) -> str:
    counts = sorted({len(seeds) for seeds in rows["seeds"]})
    if counts[0] != counts[-1]:
        return f"{counts[0]} to {counts[-1]} seeds"
    return f"{counts[0]} seed{'s' * (counts[0] > 1)}"


def _costs(row: Mapping[Any, Any]) -> list[Text]:
    return [Text(format(row[name], form) if row[name] == row[name] else ABSENT) for name, (_, form) in COSTS.items()]


def _difference_grid(compared: Differences, names: _Names, task_label: str) -> Grid:
    found = compared.found
    digits = found.groupby(METRIC, sort=False)["difference"].transform(decimals)
    rows = [
        [
            Text(f"{each['title']} {ARROWS[each['direction']]}"),
            *names.of(each["label"])[:-1],
            Text(each["group"]),
            Text(_signed(each, places), each["significant"]),
            Text(str(each["pairs"])),
            Text(_p(each["p"])),
            Text(_p(each["p_holm"]), each["significant"]),
        ]
        for each, places in zip(found.to_dict("records"), digits, strict=True)
    ]
    columns = ("metric", *names.shared(), "group", "difference", "seeds", "p", "p (Holm)")
    title = f"difference to {compared.baseline}"
    return Grid(title, columns, rows, names=2 + len(names.shared()), caption=task_label)


def _signed(found: Mapping[Any, Any], digits: int) -> str:
    mean, low, high = (found[name] for name in ("difference", "difference_low", "difference_high"))
    text = f"{mean:+.{digits}f}".replace("-", MINUS)
    return text if low != low else f"{text} ± {(high - low) / 2:.{digits}f}"


def _p(p: float) -> str:
    if p != p:
        return ABSENT
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def _across(found: Across) -> Section:
    title = f"{found.metric} {ARROWS[found.direction]} of {found.group}, over {len(found.tasks)} tasks"
    if not found.methods:
        return Section(title, [], [found.reason])
    rows = [
        [
            Text(each.label),
            Text(f"{each.mean_rank:.2f}"),
            Text(f"{a.value:.3f} ({a.low:.3f} to {a.high:.3f})" if (a := each.aggregate) else ABSENT),
        ]
        for each in found.methods
    ]
    f_statistic = "∞" if found.f_statistic is None else f"{found.f_statistic:.2f}"
    same = "; ".join(", ".join(names) for names in found.cliques) or "none"
    notes = [
        f"Tasks: {', '.join(found.tasks)}.",
        f"Friedman's test: χ² = {found.chi2:.2f}, p = {_p(found.p)}; Iman and Davenport's F = {f_statistic}, "
        f"p = {_p(found.f_p)}.",
        f"Not different at 0.05, with mean ranks (1 is best) less than {found.critical_difference:.2f} apart, "
        f"Nemenyi's critical difference: {same}.",
        f"{found.normalised} In brackets: 95 % interval, seeds resampled within each task.",
    ]
    if not any(each.aggregate for each in found.methods):
        notes[-1] = found.normalised
    columns = ("method", "mean rank", "interquartile mean")
    return Section(title, [Grid("over tasks", columns, rows, caption=title)], notes)
