"""A report at first sight: one table of the methods, and what their differences to a baseline show, a line each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from grasp_bench.contracts.entry import facts_in
from grasp_bench.contracts.record import ARROWS, CLASS_MEANS
from grasp_bench.errors import UserError
from grasp_bench.results.board import COLUMN, Leaderboard
from grasp_bench.results.comparisons import TOGETHER, Differences
from grasp_bench.results.divisions import open_rows
from grasp_bench.results.grids import (
    ABSENT,
    REFERENCE,
    Finding,
    Grid,
    Section,
    Text,
    cost_text,
    decimals,
    difference_text,
    mean_text,
    number_text,
)
from grasp_bench.results.judging import ALPHA
from grasp_bench.results.leaderboard import WORDS
from grasp_bench.results.sizes import marked
from grasp_bench.results.tables import COSTS, NOTE, Report, heading_of, names_of, search_of, sections

if TYPE_CHECKING:
    import pandas as pd

SHOWN = ("fd", "coverage", "accuracy", "authenticity")
"""Metrics of generated images that the summary has, after the task's primary ones."""
SHOWN_OF_SETS = ("fd", "coverage", "average_precision", "authenticity")
"""Metrics that the summary has in their place where images may have several labels: there is no balanced accuracy."""
STANDS, SUGGESTIVE, NOT_SHOWN = "stands", "suggestive", "not shown"
AMONG = "stands among these"
"""In place of *stands* where rows were named: others, which the report leaves out, are not corrected for."""
VERDICTS = {
    (STANDS, "better"): "than",
    (STANDS, "worse"): "than",
    (SUGGESTIVE, "better"): "than",
    (SUGGESTIVE, "worse"): "than",
    (NOT_SHOWN, "different"): "from",
}
ADJUSTED = f"p below {ALPHA:g} when adjusted for all rows of a primary metric, and for all rows and groups of any other"
OTHER_TAGS = (
    f"{SUGGESTIVE}: p below {ALPHA:g} of this one difference alone; {NOT_SHOWN}: neither, which does not say that rows "
    "are equal."
)
TAGS = {
    STANDS: f"{STANDS}: {ADJUSTED}; {OTHER_TAGS}",
    AMONG: f"{AMONG}: {ADJUSTED}, of the rows named and of no others; {OTHER_TAGS}",
}
"""What the tags mean, by how that of a difference that stands is worded."""
PARAMETERS = "trainable_parameters"
OF_SAMPLING = ("network_evaluations_per_image", "gflops_per_image")
"""Costs that the summary has where rows differ in their guidance."""
CAS = {"accuracy": ("CAS", "balanced accuracy"), "average_precision": ("CAS (mAP)", "mean average precision")}
"""A classifier's score → its title and name; the second is shown where images may have several labels."""
FEW = 6
"""Where fewer rows are compared, the summary does not say which could be best: their differences do."""
MOST_LISTED = 8
"""Differences are listed without their intervals, which tables have, where there are more."""


def viewed(report: Report) -> list[Section]:
    """Return the sections of the report in its view: all tables, or per leaderboard a summary, or findings alone.

    Raises :class:`UserError` where a summary or findings are asked for without a baseline.
    """
    if report.view == "tables":
        return sections(report)
    found = []
    for board, compared in zip(report.leaderboards, report.differences, strict=True):
        if compared is None:
            raise UserError(f"--view {report.view}: says how methods differ from one. Name it: --baseline vanilla-ft.")
        if len(board.costs):
            found.append(_summary(board, compared, report))
    return found


def main_columns(board: Leaderboard) -> list[pd.DataFrame]:
    """Return the cells of each column of the summary: the primary ones, or else what rows are sorted by, then others.

    The others are of the group of the first.
    """
    by_column = [cells for _, cells in board.cells.groupby(COLUMN, sort=False, observed=True)]
    sorted_by = board.sort_key()
    first = [cells for cells in by_column if cells["primary"].any()]
    if not first and sorted_by is not None:
        first = [sorted_by]
    if not first:
        return []
    group, known = first[0]["group"].iloc[0], [_place(cells) for cells in first]
    one_label = any(cells["metric"].iloc[0] == "accuracy" for cells in by_column)
    others = [
        cells
        for metric in (SHOWN if one_label else SHOWN_OF_SETS)
        for cells in by_column
        if _place(cells) not in known
        and (*_values(cells, "metric", "source", "test_set", "extractor", "group"),)
        == (metric, "generated", "test", "", group)
    ]
    return [*first, *others]


def tag(p: float, p_adjusted: float) -> str:
    """Return how well a difference is shown."""
    return STANDS if p_adjusted < ALPHA else SUGGESTIVE if p < ALPHA else NOT_SHOWN


def findings(board: Leaderboard, compared: Differences, columns: Sequence[pd.DataFrame]) -> list[Finding]:
    """Return what is shown of each column: which rows could be best, and which differ from the baseline.

    Of many rows in a metric that is not primary, only what stands is there.
    """
    names = board.row_names()
    found = []
    for cells in columns:
        found += _best(board, cells, names)
        where = _where(cells)
        rows = _of(compared.found, cells)
        rows = rows[rows["p"].notna()]
        lower = cells["direction"].iloc[0] == "lower"
        places = decimals(rows["difference"])
        said: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for each in rows.to_dict("records"):
            how = tag(each["p"], each["p_adjusted"])
            better = "better" if (each["difference"] < 0) == lower else "worse"
            key = (how, better if how != NOT_SHOWN else "different")
            said.setdefault(key, []).append((names[each["label"]], difference_text(each, places)))
        base = names[compared.baseline] if len(rows) else ""
        in_full = cells["primary"].any() or len(rows) < FEW
        for (how, what), than in VERDICTS.items():
            if (listed := said.get((how, what))) and (in_full or how == STANDS):
                found.append(Finding(how, f"{what} {than} {base} in {where}: {_listed(listed)}."))
    return found


def _listed(found: Sequence[tuple[str, str]]) -> str:
    if len(found) <= MOST_LISTED:
        return "; ".join(f"{name} {difference}" for name, difference in found)
    return ", ".join(f"{name} {re.split(r' [(±]', difference)[0]}" for name, difference in found)


def _best(board: Leaderboard, cells: pd.DataFrame, names: dict[Any, str]) -> list[Finding]:
    """Return which rows could be best in a primary column; of a few rows their differences say it."""
    judged = cells[cells["primary"]]
    if len(judged) < FEW:
        return []
    lower = judged["direction"].iloc[0] == "lower"
    judged = judged.sort_values("mean", ascending=lower, kind="stable")
    first, could = judged.iloc[0], judged[judged["could_be_best"].astype(bool)]
    reference = _of(board.references, cells)["reference"]
    digits = decimals(judged["mean"])
    real = f" (real reference {number_text(reference.iloc[0], digits)})" if len(reference) else ""
    listed = ", ".join(names[each] for each in could["label"])
    which = f": {listed}" if 2 * len(could) <= len(judged) else ""
    said = (
        f"{len(could)} of {len(judged)} could be best in {_where(cells)}{which}; "
        f"the {WORDS[first['direction']]} mean is that of {names[first['label']]}, {mean_text(first, digits)}{real}."
    )
    return [Finding(STANDS if len(could) < len(judged) else NOT_SHOWN, said)]


def _summary(board: Leaderboard, compared: Differences, report: Report) -> Section:
    columns = main_columns(board)
    stands = AMONG if report.named else STANDS
    found = [each._replace(tag=stands) if each.tag == STANDS else each for each in findings(board, compared, columns)]
    several = len(report.leaderboards) > 1
    together = [TOGETHER] if TOGETHER in board.said else []
    if report.view == "findings":
        return Section(heading_of(board) * several, [], together, found, report.command)
    heading = f"{heading_of(board)} · rules {board.rules}"
    means = CLASS_MEANS if any((cells["scope"] == "class mean").any() for cells in columns) else ""
    named = [CAS[name] for cells in columns if (name := cells["metric"].iloc[0]) in CAS]
    cas = " ".join(f"{title}: {name} of a classifier that is trained on generated images." for title, name in named)
    notes = [NOTE, means, cas, search_of(board), TAGS[stands], *together, open_rows(board), board.sizes]
    grid = _grid(board, compared, columns, heading, stands)
    return Section(heading, [grid], [" ".join(filter(None, notes))], found, report.command)


def _grid(
    board: Leaderboard, compared: Differences, columns: Sequence[pd.DataFrame], heading: str, stands: str
) -> Grid:
    """Return the table: scores, the difference in the first of them and how well it is shown, costs."""
    named, names = names_of(board)
    drawn = [(cells.set_index("label"), decimals(cells["mean"])) for cells in columns]
    differences = _of(compared.found, columns[0]).set_index("label") if columns else compared.found
    places = decimals(differences["difference"]) if len(differences) else 0
    costs = [PARAMETERS, *(OF_SAMPLING if board.costs["guidance"].nunique() > 1 else ())]
    heads = [_head(cells) for cells in columns]
    rows = []
    for label, declared, *counts in board.costs[["label", "declared", *costs]].itertuples(index=False):
        scores = [
            Text(mean_text(cells.loc[label], digits), bool(cells.loc[label, "best"]))
            if label in cells.index
            else Text(ABSENT)
            for cells, digits in drawn
        ]
        against = _against(differences, label, compared.baseline, places, stands)
        facts = facts_in(declared).costs
        spent = [
            Text(marked(cost_text(count, facts.get(name), COSTS[name][1]), name, count, board.parameters))
            for name, count in zip(costs, counts, strict=True)
        ]
        rows.append([*names[label], *scores[:1], *against, *scores[1:], *spent])
    real = [
        Text(number_text(each["reference"].iloc[0], digits) if len(each := _of(board.references, cells)) else ABSENT)
        for cells, (_, digits) in zip(columns, drawn, strict=True)
    ]
    blank = [Text("")] * (len(named) - 1)
    rows.append([Text(REFERENCE), *blank, *real[:1], Text(""), Text(""), *real[1:], *[Text("")] * len(costs)])
    base = board.row_names().get(compared.baseline, compared.baseline)
    shown = (*named, *heads[:1], f"difference to {base}", "shown", *heads[1:], *(COSTS[name][0] for name in costs))
    return Grid("methods", shown, rows, len(named), heading)


def _where(cells: pd.DataFrame) -> str:
    metric, title, group = _values(cells, "metric", "title", "group")
    return f"{group} {CAS[metric][0] if metric in CAS else title}"


def _head(cells: pd.DataFrame) -> str:
    return f"{_where(cells)} {ARROWS[cells['direction'].iloc[0]]}"


def _against(differences: pd.DataFrame, label: Any, baseline: str, places: int, stands: str) -> list[Text]:
    if label == baseline:
        return [Text("baseline"), Text("")]
    if label not in differences.index:
        return [Text(ABSENT), Text("not compared")]
    each = differences.loc[label]
    how = tag(each["p"], each["p_adjusted"]) if each["p"] == each["p"] else "not compared"
    return [Text(difference_text(each, places), how == STANDS), Text(stands if how == STANDS else how, how == STANDS)]


def _values(cells: pd.DataFrame, *names: str) -> tuple[Any, ...]:
    return tuple(cells[name].iloc[0] for name in names)


def _place(cells: pd.DataFrame) -> tuple[Any, ...]:
    return _values(cells, *COLUMN)


def _of(frame: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a frame that are of the column of these cells."""
    same = (frame[COLUMN].astype(str) == [str(each) for each in _place(cells)]).all(axis=1)
    return frame[same]
