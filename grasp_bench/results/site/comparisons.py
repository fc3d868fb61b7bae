"""Methods over several tasks."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from grasp_bench.results.across import Across, across_tasks
from grasp_bench.results.cd_diagram import cd_diagram_svg
from grasp_bench.results.site.boards import Board
from grasp_bench.results.site.charts import ABSENT, Chart

FEWEST = 2
"""Smallest number of methods in a diagram of ranks."""


def over_tasks(boards: Sequence[Board]) -> Chart | None:
    """Return mean ranks over all tasks with their critical difference; None if there is only one task."""
    found = across_tasks([board.table for board in boards], None)
    if found is None:
        return None
    title = f"{found.metric} of the {found.group} over {len(found.tasks)} tasks"
    if len(found.methods) < FEWEST:
        return Chart(title, found.reason, (), [])
    diagram = cd_diagram_svg({each.name: each.mean_rank for each in found.methods}, found.critical_difference)
    columns = ("method", "mean rank", "interquartile mean", "95 % interval")
    rows = [
        (each.name, f"{each.mean_rank:.2f}", *_aggregate(found, number)) for number, each in enumerate(found.methods)
    ]
    return Chart(title, _words(found), columns, rows, picture=Markup(diagram))


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
