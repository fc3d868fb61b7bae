"""How far every method is from one of them, paired over the seeds that both have."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from grasp_bench.errors import UserError, did_you_mean
from grasp_bench.results.table import Leaderboard, MetricTable
from grasp_bench.results.tiers import ALPHA, TEST_NAMES, least_p

if TYPE_CHECKING:
    from grasp_bench.stats import Test


@dataclass(frozen=True)
class Difference:
    """A method minus the baseline, on one metric and group."""

    method: str
    metric: str
    metric_label: str
    direction: Literal["lower", "higher"]
    group: str
    mean: float
    low: float | None
    """Lower end of the 95 % interval over paired seeds (Student t); none below three."""
    high: float | None
    n: int
    """Seeds that both have."""
    p: float | None
    """Two-sided; none below two seeds."""
    adjusted: float | None
    """After Holm's correction over all comparisons of :class:`Differences`."""
    unit: str = "paired seed"
    """What the interval is over."""

    @property
    def significant(self) -> bool:
        """Whether the corrected p is below the level."""
        return self.adjusted is not None and self.adjusted < ALPHA


@dataclass(frozen=True)
class Differences:
    """The comparisons of one leaderboard with its baseline."""

    task_label: str
    baseline: str
    test: Test
    found: tuple[Difference, ...]
    notes: tuple[str, ...]


def differences(boards: Sequence[Leaderboard], baseline: str, test: Test) -> list[Differences]:
    """The differences to ``baseline``, the label of a row, for each leaderboard.

    Raises :class:`UserError` where none has it.
    """
    known = sorted({row.label for board in boards for row in board.rows})
    if baseline not in known:
        hint = did_you_mean(baseline, known)
        there = f" There are: {', '.join(known)}." if known else ""
        raise UserError(f"--baseline {baseline}: no finished run that is reported has this label.{hint}{there}")
    return [_compared(board, baseline, test) for board in boards]


def _compared(board: Leaderboard, baseline: str, test: Test) -> Differences:
    from grasp_bench.stats import holm

    if baseline not in {row.label for row in board.rows}:
        return Differences(board.task_label, baseline, test, (), (f"{baseline} has no finished run here.",))
    found = list(_differences(board, baseline, test))
    adjusted = holm([each.p for each in found])
    corrected = tuple(replace(each, adjusted=p) for each, p in zip(found, adjusted, strict=True))
    notes = _notes(corrected, test)
    if any(_is_shared(table) for table in board.metrics):
        notes = (
            *notes,
            "Scores of classifiers trained on real images are left out: they are the same for all methods.",
        )
    return Differences(board.task_label, baseline, test, corrected, notes)


def _differences(board: Leaderboard, baseline: str, test: Test) -> Iterable[Difference]:
    from grasp_bench.stats import paired_difference

    for table in itertools.filterfalse(_is_shared, board.metrics):
        base = table.scores.get(baseline, {})
        for method, cells in table.scores.items():
            for group in table.groups:
                if method == baseline or group not in base or group not in cells:
                    continue
                ours, theirs = cells[group].values, base[group].values
                if shared := sorted(ours.keys() & theirs.keys()):
                    each = paired_difference([ours[seed] for seed in shared], [theirs[seed] for seed in shared], test)
                    names = (method, table.name, table.label, table.direction, group)
                    yield Difference(*names, each.mean, each.low, each.high, each.n, each.p, None)


def _is_shared(table: MetricTable) -> bool:
    """Whether every method has the same scores at a seed, so that comparing them would only dilute the correction."""
    return table.name.endswith(("_real", "_real_balanced"))


def _notes(found: Sequence[Difference], test: Test) -> tuple[str, ...]:
    tested = [each for each in found if each.p is not None]
    if not tested:
        return ("Nothing can be tested: no method shares two seeds with it in what is compared.",)
    notes = [
        f"Method minus baseline ± half the 95 % interval over paired seeds (Student t); p of the {TEST_NAMES[test]}, "
        f"and Holm-corrected over the {len(tested)} comparisons shown; bold: below {ALPHA:g}."
    ]
    most = max(each.n for each in tested)
    least = least_p(most, test)
    if least >= ALPHA:
        notes.append(f"With {most} seeds p cannot be below {least:.3g}: this test can show no difference here.")
    elif least * len(tested) >= ALPHA:
        notes.append(
            f"With {most} seeds p cannot be below {least:.3g}, which {len(tested)} comparisons correct to "
            f"{min(1.0, least * len(tested)):.3g}: ask for fewer metrics, or make more seeds."
        )
    return tuple(notes)
