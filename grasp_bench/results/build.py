"""A report: leaderboards, differences to a baseline, and the comparison over tasks, from runs and options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grasp_bench.results.across import Across, across_tasks
from grasp_bench.results.choose import chosen, sort_rows
from grasp_bench.results.differences import Differences, differences
from grasp_bench.results.options import Options
from grasp_bench.results.summary import Runs
from grasp_bench.results.table import Leaderboard, leaderboards


@dataclass(frozen=True)
class Report:
    """What is printed, whatever the format."""

    leaderboards: tuple[Leaderboard, ...]
    differences: tuple[Differences, ...]
    """One a leaderboard; empty without a baseline."""
    across_tasks: Across | None
    """None where there is but one task."""

    @property
    def compared(self) -> list[tuple[Leaderboard, Differences | None]]:
        """Each leaderboard with its differences, if a baseline was named."""
        found = self.differences or [None] * len(self.leaderboards)
        return list(zip(self.leaderboards, found, strict=True))


def build(runs: Runs, options: Options, results: Path) -> Report:
    """The report of ``runs``, read from ``results``. Raises :class:`UserError` for names that none of them has."""
    boards = sort_rows(leaderboards(chosen(runs, options, results), options.test), options.sort)
    return Report(
        leaderboards=tuple(boards),
        differences=tuple(differences(boards, options.baseline, options.test)) if options.baseline else (),
        across_tasks=across_tasks(boards, options.sort),
    )
