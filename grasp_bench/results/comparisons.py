"""What the seeds can tell apart: tiers of a leaderboard, and how far every method is from one of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from grasp_bench.errors import UserError, did_you_mean
from grasp_bench.results.board import COLUMN, ROW, Leaderboard, numbered

if TYPE_CHECKING:
    import pandas as pd

    from grasp_bench.stats import Test

ALPHA = 0.05
TEST_NAMES = {
    "permutation": "exact permutation test",
    "wilcoxon": "Wilcoxon signed-rank test",
    "t": "paired t test",
}
MEASURES = ["difference", "difference_low", "difference_high", "pairs", "p", "p_holm"]


def with_tiers(board: Leaderboard, test: Test) -> Leaderboard:
    """Return the leaderboard with the tier of every cell for which the seeds can tell methods apart, and a note on it.

    Methods are compared in pairs over the seeds that both have, with Holm's correction over all pairs of a metric and
    group. Where no p could be low enough after that, nothing is compared, which is slow where methods are many.
    """
    from grasp_bench.stats import tiers

    scores = board.compared_scores()
    columns = numbered(scores, COLUMN)
    compared = _compared_by_column(columns, scores)
    found: dict[tuple[str, ...], int] = {}
    for number, comparisons in enumerate(compared):
        if not _can_separate(*comparisons, test):
            continue
        column = scores[columns == number].set_index("seed")
        values: Any = {label: each.to_dict() for label, each in column.groupby("label")["value"]}
        each = tiers(values, column["direction"].iloc[0], test, ALPHA)
        if each.can_separate:
            key = column[COLUMN].iloc[0]
            found |= {(*key, label): tier for label, tier in each.tier.items()}
    if not found:
        return replace(board, tiers=_why_not(compared, test) if len(board.costs) > 1 and compared else "")
    keys = board.cells[[*COLUMN, "label"]].itertuples(index=False, name=None)
    words = (
        "Raised figures are tiers: the methods of one do not differ significantly from its best "
        f"({TEST_NAMES[test]} paired over seeds, Holm-corrected over all pairs of methods, at {ALPHA:g})."
    )
    column = np.array([found.get(key, np.nan) for key in keys], dtype=np.float64)
    return replace(board, cells=board.cells.assign(tier=column), tiers=words)


def _can_separate(comparisons: int, seeds: int, test: Test) -> bool:
    from grasp_bench.stats import least_p

    return comparisons > 0 and comparisons * least_p(seeds, test) < ALPHA


def _compared_by_column(columns: np.ndarray, scores: pd.DataFrame) -> list[tuple[int, int]]:
    """Return what :func:`_compared` finds in each column; ``columns`` (scores,) numbers the column of each score."""
    import pandas as pd

    if not len(scores):
        return []
    places = (columns, *(pd.factorize(scores[name])[0] for name in ("label", "seed")))
    there = np.zeros([each.max() + 1 for each in places], dtype=np.bool_)
    there[places] = True
    different = {each.tobytes(): each for each in there}  # few: methods mostly have the same seeds in every column
    compared = {key: _compared(each) for key, each in different.items()}
    return [compared[each.tobytes()] for each in there]


def _compared(there: np.ndarray) -> tuple[int, int]:
    """Return how many pairs of methods share enough seeds, and the most that a pair shares.

    ``there`` (methods, seeds) says which method has which seed.
    """
    from grasp_bench.stats.tiers import FEWEST_SEEDS

    kinds, counts = np.unique(there, axis=0, return_counts=True)
    shared = kinds.astype(np.int64) @ kinds.T.astype(np.int64)
    pairs = np.triu(np.outer(counts, counts), 1) + np.diag(counts * (counts - 1) // 2)
    enough = (shared >= FEWEST_SEEDS) & (pairs > 0)
    return int(pairs[enough].sum()), int(shared[enough].max(initial=0))


def _why_not(compared: Sequence[tuple[int, int]], test: Test) -> str:
    """Return what the column that comes nearest to telling methods apart lacks."""
    from grasp_bench.stats import least_p

    tested = [each for each in compared if each[0]]
    if not tested:
        return "No tiers: no two methods share three seeds."
    comparisons, seeds = min(tested, key=lambda each: each[0] * least_p(each[1], test))
    least = least_p(seeds, test)
    corrected = f", {min(1.0, comparisons * least):.3g} after Holm's correction over {comparisons} pairs of methods"
    needed = math.floor(1 + math.log2(comparisons / ALPHA)) + 1
    return (
        f"No tiers: the least p that the {TEST_NAMES[test]} can give for {seeds} paired seeds is {least:.3g}"
        f"{corrected if comparisons > 1 else ''}; {needed} seeds could separate at {ALPHA:g}."
    )


@dataclass(frozen=True)
class Differences:
    """The comparisons of one leaderboard with its baseline."""

    baseline: str
    """Label of the baseline's row."""
    test: Test
    found: pd.DataFrame
    """One row per other method, metric and group: :data:`~grasp_bench.results.board.ROW`, ``COLUMN``, ``title``,
    ``direction``; ``difference`` (mean of method minus baseline), ``difference_low``, ``difference_high`` (95 %,
    Student's t over paired seeds; NaN below three), ``pairs`` (seeds that both have), ``p`` (two-sided; NaN below two),
    ``p_holm`` (corrected over all comparisons of the leaderboard) and ``significant``."""
    notes: tuple[str, ...]


def differences(boards: Sequence[Leaderboard], baseline: str, test: Test) -> list[Differences]:
    """Return the differences to ``baseline`` for each leaderboard.

    ``baseline`` is the label of a row, or the name of a method, which means its row with the task's own guidance and
    default settings. Raises :class:`~grasp_bench.errors.UserError` where no leaderboard has it.
    """
    rows = [_row_of(board, baseline) for board in boards]
    if not any(rows):
        known = sorted({label for board in boards for label in board.costs["label"]})
        hint = did_you_mean(baseline, known)
        there = f" There are: {', '.join(known)}." if known else ""
        raise UserError(f"--baseline {baseline}: no finished run that is reported is of this row.{hint}{there}")
    return [_differences(board, row, baseline, test) for board, row in zip(boards, rows, strict=True)]


def _row_of(board: Leaderboard, name: str) -> str | None:
    """Return the label of the row that ``name``, a label or a method, means; None where there is no such row."""
    rows = board.costs
    if name in set(rows["label"]):
        return name
    of_method = rows[rows["method"] == name]
    own = of_method[of_method["default_guidance"] & (of_method["settings"] == "")]
    found = own if len(own) else of_method
    return str(found["label"].iloc[0]) if len(found) == 1 else None


def _differences(board: Leaderboard, row: str | None, asked: str, test: Test) -> Differences:
    """Return the comparisons in the order of the cells.

    Classifiers trained on real images are the same for all methods: comparing them would only dilute the correction.
    """
    import pandas as pd

    from grasp_bench.stats import holm, paired_difference

    names = [*ROW, *COLUMN, "title", "direction"]
    scores = board.compared_scores()
    theirs = scores.loc[(scores["label"] == row) & (scores["source"] != "real"), [*COLUMN, "seed", "value"]]
    pairs = scores[scores["label"] != row].merge(theirs, on=[*COLUMN, "seed"], suffixes=("", "_baseline"))
    lines = []
    for key, each in pairs.groupby([*COLUMN, "label"], sort=False, observed=True):
        one = paired_difference(each["value"].to_list(), each["value_baseline"].to_list(), test)
        lines.append((*key, one.mean, one.low, one.high, one.n, one.p))
    measured = pd.DataFrame(lines, columns=[*COLUMN, "label", *MEASURES[:-1]])
    found = board.cells[names].merge(measured, on=[*COLUMN, "label"])
    found["p_holm"] = holm([None if p != p else p for p in found["p"]])
    found = found.astype({name: float for name in MEASURES if name != "pairs"})
    found["significant"] = found["p_holm"] < ALPHA
    if row is None:
        return Differences(asked, test, found, (f"{asked} has no finished run here.",))
    notes = _notes(found, test)
    if (board.cells["source"] == "real").any():
        notes.append("Scores of classifiers trained on real images are left out: they are the same for all methods.")
    return Differences(row, test, found, tuple(notes))


def _notes(found: pd.DataFrame, test: Test) -> list[str]:
    from grasp_bench.stats import least_p

    tested = found[found["p"].notna()]
    if not len(tested):
        return ["Nothing can be tested: no method shares two seeds with it in what is compared."]
    notes = [
        f"Method minus baseline ± half the 95 % interval over paired seeds (Student t); p of the {TEST_NAMES[test]}, "
        f"and Holm-corrected over the {len(tested)} comparisons shown; bold: below {ALPHA:g}."
    ]
    most = int(tested["pairs"].max())
    least = least_p(most, test)
    if least >= ALPHA:
        notes.append(f"With {most} seeds p cannot be below {least:.3g}: this test can show no difference here.")
    elif least * len(tested) >= ALPHA:
        notes.append(
            f"With {most} seeds p cannot be below {least:.3g}, which {len(tested)} comparisons correct to "
            f"{min(1.0, least * len(tested)):.3g}: ask for fewer metrics, or make more seeds."
        )
    return notes
