"""What the seeds can tell apart: which methods differ, could be best, and how far each is from a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from grasp_bench.errors import UserError, did_you_mean
from grasp_bench.results.board import COLUMN, ROW, Leaderboard
from grasp_bench.results.judging import ALPHA, PROCEDURES, Column, Procedure, columns_of, judge, paired_pairs

if TYPE_CHECKING:
    import pandas as pd

MEASURES = ["difference", "difference_low", "difference_high", "pairs", "p", "p_adjusted"]
MOST_ROWS = 200
"""With more rows, comparing all pairs takes minutes and finds next to nothing."""
TOGETHER = (
    "Some rows sample the same trained weights and others do not, so that their errors go together: rows are compared "
    "by paired t tests, which do not take them to be independent."
)


def fitting(board: Leaderboard, asked: Procedure) -> Procedure:
    """Return the procedure by which the rows are compared: paired t tests for the model where it does not hold."""
    return "t" if asked == "model" and board.mixed else asked


def compared(board: Leaderboard, asked: Procedure) -> Leaderboard:
    """Return the leaderboard with what its methods' seeds can tell apart, in ``judged``, ``said`` and the cells."""
    import pandas as pd

    procedure = fitting(board, asked)
    if len(board.closed) < 2:
        return board
    if len(board.closed) > MOST_ROWS:
        many = f"Not compared: {len(board.closed)} rows are too many at once; name up to {MOST_ROWS} with --method."
        return replace(board, said=(many,))
    columns = columns_of(board)
    found = [judge(each, procedure) for each in columns if len(each.labels) > 1]
    if not found:
        return replace(board, said=("Not compared: fewer than two rows have three seeds.",))
    judged = pd.DataFrame([each.line for each in found])
    secondary = ~judged["primary"].to_numpy(dtype=np.bool_)
    judged["p_adjusted"] = np.where(secondary, _adjusted(judged["p"].to_numpy(), secondary), judged["p"])
    of_rows = pd.concat([each.rows for each in found if each.line["primary"]] or [found[0].rows.iloc[:0]])
    cells = board.cells.drop(columns=["primary", "rank_low", "rank_high", "could_be_best"])
    cells = cells.merge(of_rows, on=[*COLUMN, "label"], how="left").astype({"could_be_best": "boolean"})
    cells = cells.assign(primary=cells["rank_low"].notna())
    cells = cells.astype({name: board.cells[name].dtype for name in COLUMN})
    said = _said(board, columns, judged, cells, procedure)
    return replace(board, cells=cells, judged=judged, said=said if procedure == asked else (TOGETHER, *said))


def _adjusted(p: np.ndarray, those: np.ndarray) -> np.ndarray:
    from grasp_bench.stats import false_discovery_rate

    return false_discovery_rate(np.where(those, p, np.nan))


def _said(
    board: Leaderboard, columns: Sequence[Column], judged: pd.DataFrame, cells: pd.DataFrame, procedure: Procedure
) -> tuple[str, ...]:
    """Return what a reader must know of the comparisons, a sentence or two each."""
    names = board.row_names()
    said = []
    for each in judged[judged["primary"]].to_dict("records"):
        scale = ", on a log scale" if each["scale"] == "log" else ""
        of_column = cells[(cells[COLUMN] == [each[name] for name in COLUMN]).all(axis=1)]
        best = of_column[of_column["could_be_best"].fillna(False)].sort_values("mean", kind="stable")
        best = best if each["direction"] == "lower" else best.iloc[::-1]
        which = ", ".join(names[label] for label in best["label"])
        said.append(
            f"Primary metric {each['title']}, {each['group']}{scale}: {each['words']} {len(best)} of {each['methods']} "
            f"could be best: {which}."
        )
    if said:
        said.append(
            f"rank: between which ranks a row lies; *: could be best. {PROCEDURES[procedure].ranks} Each statement "
            f"holds for all rows together at {1 - ALPHA:.0%}."
        )
    others = judged[~judged["primary"].to_numpy(dtype=np.bool_)]
    if len(others):
        same = others[~(others["p_adjusted"] < ALPHA)]
        which = "; ".join(f"{title}, {group}" for title, group in zip(same["title"], same["group"], strict=True))
        but = f" but {which}" if len(same) < len(others) else ""
        differ = "rows are not shown to differ in any" if len(same) == len(others) else f"rows differ in all{but}"
        said.append(
            f"Other metrics, judged together at a false discovery rate of {ALPHA:.0%} over {len(others)} columns "
            f"({PROCEDURES[procedure].omnibus}): {differ if which else 'rows differ in all'}."
        )
    few = sorted({names[label] for each in columns for label in each.few})
    if few:
        said.append(f"Not compared, with fewer than three seeds: {', '.join(few)}.")
    return tuple(said)


@dataclass(frozen=True)
class Differences:
    """The comparisons of one leaderboard with its baseline."""

    baseline: str
    """Label of the baseline's row."""
    test: Procedure
    found: pd.DataFrame
    """One row per other method, metric and group: :data:`~grasp_bench.results.board.ROW`, ``COLUMN``, ``title``,
    ``direction``, ``primary``, ``scale``; ``difference`` (method minus baseline; on the log scale the ratio minus 1),
    ``difference_low``, ``difference_high`` (95 %; simultaneous for all rows where the metric is primary; NaN below
    three seeds), ``pairs`` (seeds that both have), ``p`` (two-sided), ``p_adjusted`` and ``significant``."""
    notes: tuple[str, ...]


def differences(boards: Sequence[Leaderboard], baseline: str, test: Procedure) -> list[Differences]:
    """Return the differences to ``baseline`` for each leaderboard.

    ``baseline`` is the label of a row, or the name of a method, which means its row with the task's own guidance and
    default settings. Raises :class:`~grasp_bench.errors.UserError` where no leaderboard has it.
    """
    rows = baseline_rows(boards, baseline)
    return [_differences(board, row, baseline, test) for board, row in zip(boards, rows, strict=True)]


def baseline_rows(boards: Sequence[Leaderboard], baseline: str) -> list[str | None]:
    """Return the label of the row that ``baseline`` means in each leaderboard, None where there is none.

    Raises :class:`~grasp_bench.errors.UserError` where no leaderboard has it in the closed division.
    """
    rows = [_row_of(board, baseline) for board in boards]
    if not any(rows):
        if any(board.open[["label", "method"]].isin([baseline]).any(axis=None) for board in boards):
            raise UserError(
                f"--baseline {baseline}: is of the open division, with which nothing is compared: how its images came "
                "about was not held equal. Name a row of the closed division."
            )
        known = sorted({label for board in boards for label in board.closed["label"]})
        hint = did_you_mean(baseline, known)
        there = f" There are: {', '.join(known)}." if known else ""
        raise UserError(f"--baseline {baseline}: no finished run that is reported is of this row.{hint}{there}")
    return rows


def _row_of(board: Leaderboard, name: str) -> str | None:
    """Return the label of the closed row that ``name``, a label or a method, means; None where there is none."""
    rows = board.closed
    if name in set(rows["label"]):
        return name
    of_method = rows[rows["method"] == name]
    own = of_method[of_method["default_guidance"] & (of_method["settings"] == "")]
    found = own if len(own) else of_method
    return str(found["label"].iloc[0]) if len(found) == 1 else None


def _differences(board: Leaderboard, row: str | None, asked: str, test: Procedure) -> Differences:
    """Return the comparisons in the order of the cells.

    Classifiers trained on real images are the same for all methods: comparing them would only dilute the correction.
    """
    import pandas as pd

    test = fitting(board, test)
    lines = [line for each in columns_of(board) if row in each.every for line in to_baseline(each, str(row), test)]
    measured = pd.DataFrame(lines, columns=[*COLUMN, "label", "primary", "scale", *MEASURES[:-1], "p_adjusted"])
    found = board.cells[[*ROW, *COLUMN, "title", "direction"]].merge(measured, on=[*COLUMN, "label"])
    found = found.astype({name: float for name in MEASURES if name != "pairs"})
    secondary = ~found["primary"].to_numpy(dtype=np.bool_)
    found["p_adjusted"] = np.where(secondary, _adjusted(found["p"].to_numpy(), secondary), found["p_adjusted"])
    found["significant"] = found["p_adjusted"] < ALPHA
    if row is None:
        return Differences(asked, test, found, (f"{asked} has no finished run here.",))
    notes = _notes(found, test)
    if (board.cells["source"] == "real").any():
        notes.append("Scores of classifiers trained on real images are left out: they are the same for all methods.")
    return Differences(row, test, found, tuple(notes))


def to_baseline(column: Column, row: str, test: Procedure) -> list[tuple[Any, ...]]:
    """Return place, label, whether primary, scale and measures of every other row of a column against ``row``."""
    values, at = column.every[row], column.labels.index(row) if row in column.labels else None
    exactly: dict[str, tuple[float, ...]] = {}
    if test == "model" and at is not None and column.model is not None:
        exactly = _by_model(column, at)
    elif test != "model":
        exactly = paired_pairs(column, row, test)
    lines = []
    for label, each in column.every.items():
        if label == row:
            continue
        shared = ~(np.isnan(each) | np.isnan(values))
        mean = float((each - values)[shared].mean()) if shared.any() else np.nan
        difference, low, high, p, adjusted = exactly.get(label, (mean, *[np.nan] * 4))
        if column.scale == "log":
            difference, low, high = (float(np.expm1(end)) for end in (difference, low, high))
        if shared.any():
            measures = (difference, low, high, int(shared.sum()), p, adjusted)
            lines.append((*column.place, label, column.primary, column.scale, *measures))
    return lines


def _by_model(column: Column, at: int) -> dict[str, tuple[float, ...]]:
    """Return label → difference, ends of its interval, p and adjusted p, of the rows that the model holds."""
    from scipy.special import stdtrit

    from grasp_bench.stats import single_p, with_baseline

    model = column.model
    if model is None:
        return {}
    p = single_p(model)[:, at]
    if column.primary:
        every = with_baseline(model, at, ALPHA)
        ends = zip(every.others, every.difference, every.low, every.high, p[every.others], every.p, strict=True)
        return {column.labels[other]: tuple(map(float, measures)) for other, *measures in ends}
    half = stdtrit(model.error_df[:, at], 1 - ALPHA / 2) * model.error[:, at]
    return {
        label: (float(each), float(each - width), float(each + width), float(one), np.nan)
        for label, each, width, one in zip(column.labels, model.difference[:, at], half, p, strict=True)
    }


def _notes(found: pd.DataFrame, test: Procedure) -> list[str]:
    tested = found[found["p"].notna()]
    if not len(tested):
        return ["Nothing can be tested: no row shares enough seeds with it in what is compared."]
    notes = [f"Method minus baseline with its 95 % interval; of a distance in percent. {PROCEDURES[test].differences}"]
    several = int((~tested["primary"].to_numpy(dtype=np.bool_)).sum())
    if several:
        notes.append(
            f"Other metrics than the primary ones: the interval is of one difference alone, and p is adjusted for a "
            f"false discovery rate over {several} comparisons (Benjamini and Hochberg)."
        )
    notes.append(f"Bold: adjusted p below {ALPHA:g}.")
    comparisons = int(tested.groupby(COLUMN, observed=True).size().max())
    return [*notes, *filter(None, [_too_few(int(tested["pairs"].max()), comparisons, test)])]


def _too_few(seeds: int, comparisons: int, test: Procedure) -> str:
    """Return that so many paired seeds can show nothing by ``test``; empty where they can."""
    from grasp_bench.stats import least_p

    if test == "model" or (least := least_p(seeds, test) * comparisons) < ALPHA:
        return ""
    return (
        f"With {seeds} seeds the {PROCEDURES[test].name} can show nothing in a primary metric: its least p over "
        f"{comparisons} comparisons is {min(1.0, least):.3g}."
    )
