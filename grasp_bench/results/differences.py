"""How far every method is from one of them, paired over the seeds that both have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from grasp_bench.errors import UserError, did_you_mean
from grasp_bench.results.board import COLUMN, ROW, Leaderboard
from grasp_bench.results.tiers import ALPHA, TEST_NAMES, by_seed

if TYPE_CHECKING:
    import pandas as pd

    from grasp_bench.stats import Test

MEASURES = ["difference", "difference_low", "difference_high", "pairs", "p", "p_holm"]


@dataclass(frozen=True)
class Differences:
    """The comparisons of one leaderboard with its baseline."""

    baseline: str
    """Label of the baseline's row."""
    test: Test
    found: pd.DataFrame
    """One row per other method, metric and group: :data:`~grasp_bench.results.leaderboard.ROW`, ``COLUMN``, ``title``,
    ``direction``; ``difference`` (mean of method minus baseline), ``difference_low``, ``difference_high`` (95 %,
    Student's t over paired seeds; NaN below three), ``pairs`` (seeds that both have), ``p`` (two-sided; NaN below two),
    ``p_holm`` (corrected over all comparisons of the leaderboard) and ``significant``."""
    notes: tuple[str, ...]


def differences(boards: Sequence[Leaderboard], baseline: str, test: Test) -> list[Differences]:
    """Return the differences to ``baseline`` for each leaderboard.

    ``baseline`` is the label of a row, or the name of a method, which means its row with the task's own guidance and
    default settings. Raises :class:`~grasp_bench.errors.UserError` where no leaderboard has it.
    """
    rows = [row_of(board, baseline) for board in boards]
    if not any(rows):
        known = sorted({label for board in boards for label in board.costs["label"]})
        hint = did_you_mean(baseline, known)
        there = f" There are: {', '.join(known)}." if known else ""
        raise UserError(f"--baseline {baseline}: no finished run that is reported is of this row.{hint}{there}")
    return [_compared(board, row, baseline, test) for board, row in zip(boards, rows, strict=True)]


def row_of(board: Leaderboard, name: str) -> str | None:
    """Return the label of the row that ``name``, a label or a method, means; None where there is no such row."""
    rows = board.costs
    if name in set(rows["label"]):
        return name
    own = rows[(rows["method"] == name) & rows["default_guidance"] & (rows["settings"] == "")]
    of_method = rows[rows["method"] == name]
    found = own if len(own) else of_method
    return str(found["label"].iloc[0]) if len(found) == 1 else None


def _compared(board: Leaderboard, row: str | None, asked: str, test: Test) -> Differences:
    from grasp_bench.stats import holm

    found = _differences(board, row, test)
    if row is None:
        return Differences(asked, test, found, (f"{asked} has no finished run here.",))
    p_values = [None if p != p else p for p in found["p"]]
    found["p_holm"] = [float("nan") if p is None else p for p in holm(p_values)]
    found["significant"] = found["p_holm"] < ALPHA
    notes = _notes(found, test)
    if (board.cells["source"] == "real").any():
        real = "Scores of classifiers trained on real images are left out: they are the same for all methods."
        notes = (*notes, real)
    return Differences(row, test, found, notes)


def _differences(board: Leaderboard, baseline: str | None, test: Test) -> pd.DataFrame:
    """The comparisons in the order of the cells, before any correction.

    Classifiers trained on real images are the same for all methods: comparing them would only dilute the correction.
    """
    import pandas as pd

    from grasp_bench.stats import paired_difference

    names = [*ROW, *COLUMN, "title", "direction"]
    cells = board.cells[(board.cells["label"] != baseline) & (board.cells["source"] != "real")]
    values = {
        key: dict(zip(table.index, table.to_numpy(), strict=True))
        for key, (_, table) in (by_seed(board) if baseline else {}).items()
    }
    lines = []
    for cell, key in zip(cells[names].itertuples(index=False), cells[COLUMN].itertuples(index=False), strict=True):
        rows = values.get(tuple(key), {})
        if not {cell[0], baseline} <= rows.keys():
            continue
        ours, theirs = rows[cell[0]], rows[baseline]
        both = ~np.isnan(ours - theirs)
        if both.any():
            each = paired_difference(ours[both], theirs[both], test)
            lines.append((*cell, each.mean, each.low, each.high, each.n, each.p, None))
    found = pd.DataFrame(lines, columns=[*names, *MEASURES])
    return found.astype({name: float for name in MEASURES if name != "pairs"}).assign(significant=False)


def _notes(found: pd.DataFrame, test: Test) -> tuple[str, ...]:
    from grasp_bench.stats import least_p

    tested = found[found["p"].notna()]
    if not len(tested):
        return ("Nothing can be tested: no method shares two seeds with it in what is compared.",)
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
    return tuple(notes)
