"""A report, and its tables of text before any format: what terminal, markdown and LaTeX have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grasp_bench.contracts.entry import facts_in
from grasp_bench.contracts.record import ARROWS, CLASS_MEANS, ENOUGH_SEEDS
from grasp_bench.results.across import Across, across_tasks
from grasp_bench.results.board import METRIC, Leaderboard
from grasp_bench.results.comparisons import Differences, differences
from grasp_bench.results.divisions import DECLARED, declared_table, open_rows
from grasp_bench.results.grids import (
    ABSENT,
    REFERENCE,
    Grid,
    Section,
    Text,
    cost_text,
    decimals,
    difference_text,
    mean_text,
    number_text,
    p_text,
    plain,
)
from grasp_bench.results.leaderboard import leaderboards
from grasp_bench.results.options import Options, View, chosen
from grasp_bench.results.rows import one_per_method
from grasp_bench.results.sizes import marked

if TYPE_CHECKING:
    import pandas as pd

NOTE = (
    "Mean ± half the 95 % interval over seeds (Student t; from three seeds on); provisional: fewer than five seeds; "
    "real reference: real images against held-out real ones."
)
OTHER_PROTOCOL = (
    "Another table has the same heading but for the protocol: other versions of what decides scores, so that the two "
    "do not compare; `grasp-bench compare` says which."
)
COSTS = {
    "trainable_parameters": ("trainable parameters", ",.0f"),
    "active_parameters": ("at work per image", ",.0f"),
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
    named: bool = False
    """Whether rows were named by method or guidance, and statistics are of these alone."""
    view: View = "tables"
    command: str = ""
    """Command that prints it."""


def build(frame: pd.DataFrame, options: Options, results: Path) -> Report:
    """Return the report of ``frame``, read from ``results``.

    Raises :class:`~grasp_bench.errors.UserError` for names that no run has.
    """
    rows = one_per_method(chosen(frame, options, results), options)
    boards = leaderboards(rows, options.test, options.sort)
    found = differences(boards, options.baseline, options.test) if options.baseline else [None] * len(boards)
    across, named = across_tasks(boards, options.sort), bool(options.method or options.guidance)
    return Report(tuple(boards), tuple(found), across, named, options.view, options.command)


def sections(report: Report) -> list[Section]:
    """Return one section per leaderboard, with differences to the baseline, and one for the comparison over tasks."""
    found = [_section(*each) for each in zip(report.leaderboards, report.differences, strict=True)]
    return [*found, _across(report.across_tasks)] if report.across_tasks else found


def heading_of(board: Leaderboard) -> str:
    """Return what all rows of a leaderboard share."""
    protocol = f" · protocol {board.protocol}" if board.protocol else ""
    pixels = "".join(f" · {said}" for said in (board.pixels, board.caution) if said)
    return (
        f"{board.task_label} · version {board.task_version} · {board.budget} budget · "
        f"{board.backbone}@{board.backbone_revision}{pixels}{protocol}"
    )


def names_of(board: Leaderboard) -> tuple[list[str], dict[str, list[Text]]]:
    """Return the headings of the words that say what a row is, and label of a row → its words."""
    rows = board.costs.fillna({"tuned": ""})
    named = _names(rows, _trials(board))
    words = (plain(*row) for row in named.itertuples(index=False))
    return [*named], dict(zip(rows["label"], words, strict=True))


def _trials(board: Leaderboard) -> str:
    """Return the trials of the search that chose the settings of every closed row; empty where rows differ."""
    searches = board.closed["tuned"].fillna("").unique()
    return str(searches[0]) if len(searches) == 1 else ""


def search_of(board: Leaderboard) -> str:
    """Return how many trials chose the settings of every row; empty where rows differ or none did."""
    tuned = _trials(board)
    return f"Settings of every method were chosen by a search of {tuned} trials." if tuned else ""


def _section(board: Leaderboard, compared: Differences | None) -> Section:
    heading, rows = heading_of(board), board.costs
    named, names = names_of(board)
    counts = sorted({len(seeds) for seeds in rows["seeds"]})
    grids = []
    if names:
        most = f"{counts[0]} to {counts[-1]} seeds" if len(counts) > 1 else f"{counts[0]} seed{'s' * (counts[0] > 1)}"
        caption = f"{heading}; {most}. {NOTE}"
        references: References = {}
        for *metric, group, reference in board.references[[*METRIC, "group", "reference"]].itertuples(index=False):
            references.setdefault(tuple(metric), {})[group] = reference
        grids += [_metric_grid(table, references, named, names, caption) for table in board.tables]
    baseline = board.row_names().get(compared.baseline, compared.baseline) if compared else ""
    if compared and len(compared.found):
        title = f"difference to {baseline}"
        grids.append(_difference_grid(title, compared.found, named, names, board.task_label))
    if names:
        facts = [facts_in(each) for each in rows["declared"]]
        costs = [
            [
                Text(marked(cost_text(value, each.costs.get(name), form), name, value, board.parameters))
                for value, each in zip(rows[name], facts, strict=True)
            ]
            for name, (_, form) in COSTS.items()
        ]
        cells = [[*names[label], *row] for label, *row in zip(rows["label"], *costs, strict=True)]
        grids.append(Grid("cost", (*named, *(title for title, _ in COSTS.values())), cells, len(named), heading))
        columns, said = declared_table(dict(zip(rows["label"].map(board.row_names()), facts, strict=True)), ABSENT)
        if said:
            grids.append(Grid(DECLARED, tuple(columns), [plain(*each) for each in said], len(columns), heading))
    if len(board.problems):
        shown = _problems(board)
        cells = [plain(*row) for row in shown.itertuples(index=False)]
        grids.append(Grid("without scores", tuple(shown.columns), cells, len(shown.columns), heading))
    order = board.sorted_by and f"Rows are sorted by {board.sorted_by}."
    differ = [f"Differences to {baseline}: {note}" for note in compared.notes] if compared else []
    means = CLASS_MEANS if (board.cells["scope"] == "class mean").any() else ""
    notes = [
        NOTE if len(board.cells) else "",
        means,
        search_of(board),
        board.protocol and OTHER_PROTOCOL,
        order,
        *board.said,
        open_rows(board),
        *differ,
    ]
    return Section(heading, grids, [note for note in (*notes, board.sizes, board.streams) if note])


def _problems(board: Leaderboard) -> pd.DataFrame:
    """The runs without scores: the words that say what each is, its seed, how it ended, and why."""
    found = board.problems.fillna({"tuned": "", "settings": ""})
    reason = found["reason"].str.split().str.join(" ")  # on one line
    return _told(found, "").assign(seed=found["seed"], status=found["status"], reason=reason)


def counted_seeds(seeds: Sequence[int]) -> str:
    """Return the number of a row's seeds, and whether they are too few for a leaderboard."""
    return f"{len(seeds)}, provisional" if len(seeds) < ENOUGH_SEEDS else str(len(seeds))


def _names(rows: pd.DataFrame, tuned: str) -> pd.DataFrame:
    """The words that say what each row is: method, guidance, settings where they tell, division and seeds.

    ``tuned`` is the search that chose the settings of every closed row; empty where rows differ, which then say it.
    """
    seeds = [counted_seeds(each) for each in rows["seeds"]]
    return _told(rows, tuned).assign(seeds=seeds)


def _told(rows: pd.DataFrame, tuned: str) -> pd.DataFrame:
    """Method, guidance and division, and settings where some row has any."""
    search = rows["tuned"].map(lambda trials: f"tuned={trials}" if trials and not tuned else "")
    version = rows["label"].str.extract(r" (#[0-9a-f]{8})$")[0].fillna("")
    words = zip(rows["settings"], search, rows["versions"], version, strict=True)
    settings = [", ".join(filter(None, each)) for each in words]
    names = rows[["method", "guidance"]].assign(settings=settings, division=rows["division"])
    return names if any(settings) else names.drop(columns="settings")


def _metric_grid(
    table: pd.DataFrame, references: References, named: list[str], names: dict[str, list[Text]], caption: str
) -> Grid:
    digits, groups = decimals(table["mean"].to_list()), list(dict.fromkeys(table["group"]))
    title, direction, *metric = (table[name].iloc[0] for name in ("title", "direction", *METRIC))
    by_row: dict[str, dict[str, Text]] = {}
    columns = (table[name].to_list() for name in ("label", "group", "mean", "low", "high", "n", "best"))
    for label, group, *measures, best in zip(*columns, strict=True):
        shown = mean_text(dict(zip(("mean", "low", "high", "n"), measures, strict=True)), digits)
        by_row.setdefault(label, {})[group] = Text(shown, best)
    for each in table[table["primary"]].to_dict("records"):
        star = "*" if each["could_be_best"] else ""
        by_row[each["label"]][_rank(each["group"])] = Text(f"{each['rank_low']:.0f}–{each['rank_high']:.0f}{star}")  # noqa: RUF001
    primary = set(table.loc[table["primary"], "group"])
    groups = [name for group in groups for name in ((group, _rank(group)) if group in primary else (group,))]
    rows = [[*names[label], *(cells.get(group, Text(ABSENT)) for group in groups)] for label, cells in by_row.items()]
    if found := references.get(tuple(metric)):
        real = [number_text(found[group], digits) if group in found else ABSENT for group in groups]
        rows.append(plain(REFERENCE, *[""] * (len(named) - 1), *real))
    return Grid(f"{title} {ARROWS[direction]}", (*named, *groups), rows, len(named), caption)


def _rank(group: str) -> str:
    """The heading of the ranks in a group."""
    return f"{group} rank"


def _difference_grid(
    title: str, found: pd.DataFrame, named: list[str], names: dict[str, list[Text]], caption: str
) -> Grid:
    digits = found.groupby(METRIC, sort=False, observed=True)["difference"].transform(decimals)
    rows = []
    for each, places in zip(found.to_dict("records"), digits, strict=True):
        difference = difference_text(each, places)
        rows.append(
            [
                Text(f"{each['title']} {ARROWS[each['direction']]}"),
                *names[each["label"]][:-1],
                Text(each["group"]),
                Text(difference, each["significant"]),
                Text(str(each["pairs"])),
                Text(p_text(each["p"])),
                Text(p_text(each["p_adjusted"]), each["significant"]),
            ]
        )
    words = ("metric", *named[:-1], "group")  # the seeds are those of both
    columns = (*words, "difference", "seeds", "p", "p adjusted")
    return Grid(title, columns, rows, len(words), caption)


def _across(found: Across) -> Section:
    title = f"{found.metric} {ARROWS[found.direction]} of {found.group}, over {len(found.tasks)} tasks"
    if not found.methods:
        return Section(title, [], [found.reason])
    means = [f"{a.value:.3f} ({a.low:.3f} to {a.high:.3f})" if (a := m.aggregate) else ABSENT for m in found.methods]
    rows = [plain(m.name, f"{m.mean_rank:.2f}", mean) for m, mean in zip(found.methods, means, strict=True)]
    f_statistic = "∞" if found.f_statistic is None else f"{found.f_statistic:.2f}"
    same = "; ".join(", ".join(names) for names in found.cliques) or "none"
    resampled = " In brackets: 95 % interval, seeds resampled within each task."
    notes = [
        f"Tasks: {', '.join(found.tasks)}.",
        f"Friedman's test: χ² = {found.chi2:.2f}, p = {p_text(found.p)}; Iman and Davenport's F = {f_statistic}, "
        f"p = {p_text(found.f_p)}.",
        f"Not different at 0.05, with mean ranks (1 is best) less than {found.critical_difference:.2f} apart, "
        f"Nemenyi's critical difference: {same}.",
        found.normalised + (resampled if any(each.aggregate for each in found.methods) else ""),
    ]
    columns = ("method", "mean rank", "interquartile mean")
    return Section(title, [Grid("over tasks", columns, rows, caption=title)], notes)
