"""A report: leaderboards, differences to a baseline, and the comparison over tasks, from the frame and options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grasp_bench.results.across import Across, across_tasks
from grasp_bench.results.board import Leaderboard
from grasp_bench.results.choose import chosen
from grasp_bench.results.differences import Differences, differences
from grasp_bench.results.leaderboard import leaderboards
from grasp_bench.results.options import Options

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Report:
    """What is printed, whatever the format."""

    leaderboards: tuple[Leaderboard, ...]
    differences: tuple[Differences, ...]
    """One per leaderboard; empty without a baseline."""
    across_tasks: Across | None
    """None where there is but one task."""

    @property
    def compared(self) -> list[tuple[Leaderboard, Differences | None]]:
        """Each leaderboard with its differences, if a baseline was named."""
        found = self.differences or [None] * len(self.leaderboards)
        return list(zip(self.leaderboards, found, strict=True))


def build(frame: pd.DataFrame, options: Options, results: Path) -> Report:
    """Return the report of ``frame``, read from ``results``.

    Raises :class:`~grasp_bench.errors.UserError` for names that no run has.
    """
    boards = leaderboards(chosen(frame, options, results), options.test, options.sort)
    return Report(
        leaderboards=tuple(boards),
        differences=tuple(differences(boards, options.baseline, options.test)) if options.baseline else (),
        across_tasks=across_tasks(boards, options.sort),
    )
