"""Methods compared with a baseline, and methods over several tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from grasp_bench.results.across import Across, across_tasks
from grasp_bench.results.cd_diagram import cd_diagram_svg
from grasp_bench.results.differences import Differences, differences
from grasp_bench.results.leaderboard import Leaderboard
from grasp_bench.results.site.boards import Board
from grasp_bench.results.site.charts import ABSENT, Chart
from grasp_bench.results.tiers import TEST_NAMES

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 2
"""Smallest number of methods in a diagram of ranks."""


def against(boards: Sequence[Board], baseline: str) -> list[dict[str, Chart]]:
    """Return metric → paired differences to ``baseline`` for each board, on the metrics that are drawn.

    Raises :class:`UserError` if no board has this row.
    """
    main = [[metric.key for metric in board.main] for board in boards]
    drawn = [_of_metrics(board.table, keys) for board, keys in zip(boards, main, strict=True)]
    charts = []
    for board, found in zip(boards, differences(drawn, baseline, "permutation"), strict=True):
        keys = list(zip(found.found["metric"], found.found["source"], found.found["test_set"], strict=True))
        by_metric = {metric.name: found.found[[key == metric.key for key in keys]] for metric in board.main}
        caption = _caption(found)
        charts.append({name: _against(found.baseline, each, caption) for name, each in by_metric.items() if len(each)})
    return charts


def _of_metrics(table: Leaderboard, keys: Sequence[tuple[str, str, str]]) -> Leaderboard:
    """The leaderboard with the scores of some metrics alone."""
    cells, scores = (
        each[[key in keys for key in zip(each["metric"], each["source"], each["test_set"], strict=True)]]
        for each in (table.cells, table.scores)
    )
    return replace(table, cells=cells, scores=scores)


def _caption(found: Differences) -> str:
    """Describe the numbers: each chart shows one metric, the correction is over all of them."""
    tested = int(found.found["p"].notna().sum())
    if not tested:
        return " ".join(found.notes)
    what = (
        "Method minus baseline, with the 95 % interval over paired seeds (Student t); p of the "
        f"{TEST_NAMES[found.test]}, Holm-corrected over {tested} comparisons: "
        "those of every metric that is drawn."
    )
    return " ".join([what, *found.notes[1:]])


def _against(baseline: str, found: pd.DataFrame, caption: str) -> Chart:
    columns = ("method", "group", "difference", "95 % interval", "seeds", "p", "corrected p", "significant")
    lines: Any = found.itertuples()
    rows = [
        (
            each.label,
            each.group,
            f"{each.difference:+.4g}",
            f"{each.difference_low:+.4g} to {each.difference_high:+.4g}" if each.pairs > 2 else ABSENT,
            str(each.pairs),
            ABSENT if each.p != each.p else f"{each.p:.3g}",
            ABSENT if each.p_holm != each.p_holm else f"{each.p_holm:.3g}",
            "yes" if each.significant else "no",
        )
        for each in lines
    ]
    return Chart(f"{found['title'].iloc[0]} against {baseline}", caption, Markup(""), columns, rows)


def over_tasks(boards: Sequence[Board]) -> Chart | None:
    """Return mean ranks over all tasks with their critical difference; None if there is only one task."""
    found = across_tasks([board.table for board in boards], None)
    if found is None:
        return None
    title = f"{found.metric} of the {found.group} over {len(found.tasks)} tasks"
    if len(found.methods) < FEWEST:
        return Chart(title, found.reason, Markup(""), (), [])
    diagram = cd_diagram_svg({each.label: each.mean_rank for each in found.methods}, found.critical_difference)
    columns = ("method", "mean rank", "interquartile mean", "95 % interval")
    rows = [
        (each.label, f"{each.mean_rank:.2f}", *_aggregate(found, number)) for number, each in enumerate(found.methods)
    ]
    return Chart(title, _words(found), Markup(diagram), columns, rows)


def _aggregate(found: Across, number: int) -> tuple[str, str]:
    aggregate = found.methods[number].aggregate
    if aggregate is None:
        return ABSENT, ABSENT
    return f"{aggregate.value:.3f}", f"{aggregate.low:.3f} to {aggregate.high:.3f}"


def _words(found: Across) -> str:
    interval = (
        " Its 95 % interval resamples the seeds of each task." if any(each.aggregate for each in found.methods) else ""
    )
    return (
        f"Mean ranks over {', '.join(found.tasks)}; 1 is best. Friedman's test: p = {found.p:.3g}. Methods under one "
        f"bar lie within Nemenyi's critical difference of {found.critical_difference:.2f} and are not told apart. "
        f"{found.normalised}{interval}"
    )
