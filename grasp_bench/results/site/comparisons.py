"""Methods compared with a baseline, and methods over several tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from markupsafe import Markup

from grasp_bench.results.across import Across, across_tasks
from grasp_bench.results.board import METRIC
from grasp_bench.results.cd_diagram import cd_diagram_svg
from grasp_bench.results.comparisons import TEST_NAMES, Differences, differences
from grasp_bench.results.site.boards import Board
from grasp_bench.results.site.charts import ABSENT, Chart

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 2
"""Smallest number of methods in a diagram of ranks."""


def against(boards: Sequence[Board], baseline: str) -> list[dict[str, Chart]]:
    """Return key of a metric → paired differences to ``baseline``, for each board, on the metrics that are drawn.

    Raises :class:`UserError` if no board has this row.
    """
    import pandas as pd

    drawn = [
        replace(board.table, cells=pd.concat([metric.cells for metric in board.main]).reset_index(drop=True))
        if board.main
        else board.table
        for board in boards
    ]
    charts = []
    for board, compared in zip(boards, differences(drawn, baseline, "permutation"), strict=True):
        by_metric = dict(list(compared.found.groupby(METRIC, observed=True)))
        caption, places = _caption(compared), {metric.key: tuple(metric.place.values()) for metric in board.main}
        charts.append(
            {key: _against(compared, by_metric[place], caption) for key, place in places.items() if place in by_metric}
        )
    return charts


def _caption(compared: Differences) -> str:
    """Describe the numbers: each chart shows one metric, the correction is over all of them."""
    tested = compared.found["p"].count()
    if not tested:
        return " ".join(compared.notes)
    what = (
        "Method minus baseline, with the 95 % interval over paired seeds (Student t); p of the "
        f"{TEST_NAMES[compared.test]}, Holm-corrected over {tested} comparisons: "
        "those of every metric that is drawn."
    )
    return " ".join([what, *compared.notes[1:]])


def _against(compared: Differences, found: pd.DataFrame, caption: str) -> Chart:
    columns = ("method", "guidance", "settings", "group", "difference", "95 % interval", "seeds", "p", "corrected p")
    rows = [
        (
            each["method"],
            each["guidance"],
            ", ".join(filter(None, (each["settings"], each["versions"]))),
            each["group"],
            f"{each['difference']:+.4g}",
            ABSENT
            if each["difference_low"] != each["difference_low"]  # NaN
            else f"{each['difference_low']:+.4g} to {each['difference_high']:+.4g}",
            str(each["pairs"]),
            _p(each["p"]),
            _p(each["p_holm"]),
            "yes" if each["significant"] else "no",
        )
        for each in found.to_dict("records")
    ]
    title = f"{found['title'].iloc[0]} against {compared.baseline}"
    return Chart(title, caption, Markup(""), (*columns, "significant"), rows)


def _p(value: float) -> str:
    return ABSENT if value != value else f"{value:.3g}"


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
