"""A report, and its tables of text before any format: what terminal, markdown and LaTeX have in common."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from grasp_bench.contracts.record import ARROWS
from grasp_bench.results.across import Across, across_tasks
from grasp_bench.results.board import METRIC, Leaderboard
from grasp_bench.results.comparisons import Differences, differences
from grasp_bench.results.leaderboard import leaderboards
from grasp_bench.results.options import Options, chosen

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
References = dict[tuple[str, ...], dict[str, float]]
"""Values of the columns :data:`METRIC` → group → real reference."""


@dataclass(frozen=True)
class Report:
    """What is printed, whatever the format."""

    leaderboards: tuple[Leaderboard, ...]
    differences: tuple[Differences | None, ...]
    """One per leaderboard; None without a baseline."""
    across_tasks: Across | None
    """None where there is but one task."""


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
    """What a table that stands alone has to say besides its title."""


@dataclass(frozen=True)
class Section:
    """Tables under a heading, and what a reader must know of them."""

    heading: str
    grids: list[Grid]
    notes: list[str]


def build(frame: pd.DataFrame, options: Options, results: Path) -> Report:
    """Return the report of ``frame``, read from ``results``.

    Raises :class:`~grasp_bench.errors.UserError` for names that no run has.
    """
    boards = leaderboards(chosen(frame, options, results), options.test, options.sort)
    found = differences(boards, options.baseline, options.test) if options.baseline else [None] * len(boards)
    return Report(tuple(boards), tuple(found), across_tasks(boards, options.sort))


def sections(report: Report) -> list[Section]:
    """Return one section per leaderboard, with differences to the baseline, and one for the comparison over tasks."""
    found = [_section(*each) for each in zip(report.leaderboards, report.differences, strict=True)]
    return [*found, _across(report.across_tasks)] if report.across_tasks else found


def decimals(values: Iterable[float]) -> int:
    """Return the decimals that suit the largest of ``values``; NaN counts for nothing."""
    largest = max((abs(value) for value in values if value == value), default=0.0)
    return 1 if largest >= 100 else 2 if largest >= 10 else 3


def _section(board: Leaderboard, compared: Differences | None) -> Section:
    protocol = f" · protocol {board.protocol}" if board.protocol else ""
    pixels = "".join(f" · {said}" for said in (board.pixels, board.caution) if said)
    heading = (
        f"{board.task_label} · version {board.task_version} · {board.budget} budget · "
        f"{board.backbone}@{board.backbone_revision}{pixels}{protocol}"
    )
    rows = board.costs.fillna({"tuned": ""})
    tuned = rows["tuned"].iloc[0] if rows["tuned"].nunique() == 1 else ""
    named = _names(rows, tuned)
    names = dict(zip(rows["label"], (_plain(*row) for row in named.itertuples(index=False)), strict=True))
    counts = sorted({len(seeds) for seeds in rows["seeds"]})
    grids = []
    if names:
        most = f"{counts[0]} to {counts[-1]} seeds" if len(counts) > 1 else f"{counts[0]} seed{'s' * (counts[0] > 1)}"
        caption = f"{heading}; {most}. {NOTE}"
        references: References = {}
        for *metric, group, reference in board.references[[*METRIC, "group", "reference"]].itertuples(index=False):
            references.setdefault(tuple(metric), {})[group] = reference
        grids += [_metric_grid(table, references, [*named], names, caption) for table in board.tables]
    if compared and len(compared.found):
        grids.append(_difference_grid(compared, [*named], names, board.task_label))
    if names:
        costs = [
            [Text(ABSENT if value != value else format(value, form)) for value in rows[name]]
            for name, (_, form) in COSTS.items()
        ]
        cells = [[*names[label], *row] for label, *row in zip(rows["label"], *costs, strict=True)]
        grids.append(
            Grid("cost", (*named, *(title for title, _ in COSTS.values())), cells, len(named.columns), heading)
        )
    if len(board.problems):
        shown = ("label", "seed", "status", "reason")
        on_one_line = board.problems["reason"].str.split().str.join(" ")
        problems = board.problems.assign(reason=on_one_line)[[*shown]]
        cells = [_plain(*row) for row in problems.itertuples(index=False)]
        grids.append(Grid("without scores", shown, cells, names=4, caption=heading))
    search = tuned and f"Settings of every method were chosen by a search of {tuned} trials."
    order = board.sorted_by and f"Rows are sorted by {board.sorted_by}."
    differ = [f"Differences to {compared.baseline}: {note}" for note in compared.notes] if compared else []
    notes = [NOTE if len(board.cells) else "", search, board.protocol and OTHER_PROTOCOL, order, board.tiers, *differ]
    return Section(heading, grids, [note for note in (*notes, board.streams) if note])


def _names(rows: pd.DataFrame, tuned: str) -> pd.DataFrame:
    """The words that say what each row is: method, guidance, settings where some row has any, and seeds.

    ``tuned`` is the search that chose the settings of every row; empty where rows differ, which then say it.
    """
    search = rows["tuned"].map(lambda trials: f"tuned={trials}" if trials and not tuned else "")
    version = rows["label"].str.extract(r" (#[0-9a-f]{8})$")[0].fillna("")
    words = zip(rows["settings"], search, rows["versions"], version, strict=True)
    settings = [", ".join(filter(None, each)) for each in words]
    seeds = [PROVISIONAL if len(each) == 1 else str(len(each)) for each in rows["seeds"]]
    names = rows[["method", "guidance"]].assign(settings=settings, seeds=seeds)
    return names if any(settings) else names.drop(columns="settings")


def _plain(*words: object) -> list[Text]:
    return [Text(str(word)) for word in words]


def _metric_grid(
    table: pd.DataFrame, references: References, named: list[str], names: dict[str, list[Text]], caption: str
) -> Grid:
    digits, groups = decimals(table["mean"].to_list()), list(dict.fromkeys(table["group"]))
    title, direction, *metric = (table[name].iloc[0] for name in ("title", "direction", *METRIC))
    by_row: dict[str, dict[str, Text]] = {}
    columns = (table[name].to_list() for name in ("label", "group", "mean", "low", "high", "n", "best", "tier"))
    for label, group, mean, low, high, n, best, tier in zip(*columns, strict=True):
        text = f"n too small (n={n})" if mean != mean else f"{mean:.{digits}f}{_half(low, high, digits)}"
        by_row.setdefault(label, {})[group] = Text(text, best, None if tier != tier else int(tier))
    rows = [[*names[label], *(cells.get(group, Text(ABSENT)) for group in groups)] for label, cells in by_row.items()]
    if found := references.get(tuple(metric)):
        real = [f"{found[group]:.{digits}f}" if group in found else ABSENT for group in groups]
        rows.append(_plain(REFERENCE, *[""] * (len(named) - 1), *real))
    return Grid(f"{title} {ARROWS[direction]}", (*named, *groups), rows, len(named), caption)


def _half(low: float, high: float, digits: int) -> str:
    """Half the interval, where there is one."""
    return "" if low != low else f" ± {(high - low) / 2:.{digits}f}"


def _difference_grid(compared: Differences, named: list[str], names: dict[str, list[Text]], task_label: str) -> Grid:
    found = compared.found
    digits = found.groupby(METRIC, sort=False, observed=True)["difference"].transform(decimals)
    rows = []
    for each, places in zip(found.to_dict("records"), digits, strict=True):
        difference = f"{each['difference']:+.{places}f}".replace("-", MINUS)
        half = _half(each["difference_low"], each["difference_high"], places)
        rows.append(
            [
                Text(f"{each['title']} {ARROWS[each['direction']]}"),
                *names[each["label"]][:-1],
                Text(each["group"]),
                Text(difference + half, each["significant"]),
                Text(str(each["pairs"])),
                Text(_p(each["p"])),
                Text(_p(each["p_holm"]), each["significant"]),
            ]
        )
    words = ("metric", *named[:-1], "group")  # the seeds are those of both
    columns = (*words, "difference", "seeds", "p", "p (Holm)")
    return Grid(f"difference to {compared.baseline}", columns, rows, len(words), task_label)


def _p(p: float) -> str:
    if p != p:
        return ABSENT
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def _across(found: Across) -> Section:
    title = f"{found.metric} {ARROWS[found.direction]} of {found.group}, over {len(found.tasks)} tasks"
    if not found.methods:
        return Section(title, [], [found.reason])
    means = [f"{a.value:.3f} ({a.low:.3f} to {a.high:.3f})" if (a := m.aggregate) else ABSENT for m in found.methods]
    rows = [_plain(m.label, f"{m.mean_rank:.2f}", mean) for m, mean in zip(found.methods, means, strict=True)]
    f_statistic = "∞" if found.f_statistic is None else f"{found.f_statistic:.2f}"
    same = "; ".join(", ".join(names) for names in found.cliques) or "none"
    resampled = " In brackets: 95 % interval, seeds resampled within each task."
    notes = [
        f"Tasks: {', '.join(found.tasks)}.",
        f"Friedman's test: χ² = {found.chi2:.2f}, p = {_p(found.p)}; Iman and Davenport's F = {f_statistic}, "
        f"p = {_p(found.f_p)}.",
        f"Not different at 0.05, with mean ranks (1 is best) less than {found.critical_difference:.2f} apart, "
        f"Nemenyi's critical difference: {same}.",
        found.normalised + (resampled if any(each.aggregate for each in found.methods) else ""),
    ]
    columns = ("method", "mean rank", "interquartile mean")
    return Section(title, [Grid("over tasks", columns, rows, caption=title)], notes)
