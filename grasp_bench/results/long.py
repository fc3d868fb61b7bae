"""A report as one line a score: CSV and parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from grasp_bench.results.build import Report
from grasp_bench.results.columns import numbers, texts, whole_numbers
from grasp_bench.results.differences import Difference
from grasp_bench.results.table import Leaderboard, MeanCost

WORDS = (
    *("task", "task_version", "budget", "backbone", "backbone_revision", "protocol", "method", "status", "reason"),
    *("metric", "label", "group", "direction"),
)
SCORES = ("mean", "low", "high", "unit", "n_seeds", "n", "floor", "tier")
DIFFERENCES = ("baseline", "difference", "difference_low", "difference_high", "difference_unit", "p", "p_holm")
COSTS = (
    *("trainable_parameters", "train_seconds", "peak_memory_mib", "network_evaluations_per_image"),
    *("backward_passes_per_image", "gflops_per_image", "generate_peak_memory_mib"),
)
COLUMNS = (*WORDS, *SCORES, *DIFFERENCES, *COSTS)
TEXTS = (*WORDS, "unit", "baseline", "difference_unit")
WHOLE = ("n_seeds", "n", "tier")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the start of a formula."""


def csv_text(report: Report) -> str:
    """One line for each task, method, metric and group, and one for each run without scores.

    A field is empty where there is no value. A name or reason that a spreadsheet would take for a formula has an
    apostrophe before it.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in _lines(report):
        writer.writerow([_harmless(line.get(name)) for name in COLUMNS])
    return out.getvalue()


def parquet_bytes(report: Report) -> bytes:
    """The same lines and columns as a parquet file, with null where there is no value."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def column(name: str, values: list[Any]) -> pa.Array:
        return texts(values) if name in TEXTS else whole_numbers(values) if name in WHOLE else numbers(values)

    lines = list(_lines(report))
    columns = [column(name, [line.get(name) for line in lines]) for name in COLUMNS]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, names=list(COLUMNS)), buffer)
    return buffer.getvalue()


def _lines(report: Report) -> Iterator[dict[str, Any]]:
    """Column → value; a column that is absent has none."""
    for board, differences in report.compared:
        found = {(each.method, each.metric, each.group): each for each in differences.found} if differences else {}
        for line in _board_lines(board):
            each = found.get((line["method"], line.get("metric", ""), line.get("group", "")))
            yield line | (_difference(differences.baseline, each) if differences and each else {})


def _board_lines(board: Leaderboard) -> Iterator[dict[str, Any]]:
    shared = {
        "task": board.task_label,
        "task_version": board.task_version,
        "budget": board.budget,
        "backbone": board.backbone,
        "backbone_revision": board.backbone_revision,
        "protocol": board.protocol or None,
    }
    costs = {row.label: _cost(row.cost) for row in board.rows}
    for table in board.metrics:
        metric = {"metric": table.name, "label": table.label, "direction": table.direction}
        for method, cells in table.scores.items():
            names = {**shared, "method": method, "status": "finished", **metric}
            for group, cell in cells.items():
                scores = {name: getattr(cell, name) for name in SCORES}
                yield {**names, "group": group, **scores, **costs[method]}
    for problem in board.problems:
        yield {**shared, "method": problem.label, "status": problem.status, "reason": problem.reason}


def _cost(cost: MeanCost | None) -> dict[str, float | None]:
    return {name: getattr(cost, name) for name in COSTS} if cost else {}


def _difference(baseline: str, found: Difference) -> dict[str, Any]:
    values = (baseline, found.mean, found.low, found.high, found.unit, found.p, found.adjusted)
    return dict(zip(DIFFERENCES, values, strict=True))


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
