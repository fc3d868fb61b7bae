"""A report for programs: CSV and parquet with one line per score, and JSON."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from grasp_bench.contracts.record import Cost
from grasp_bench.results.board import COLUMN, ROW, SHARED, Leaderboard
from grasp_bench.results.build import Report
from grasp_bench.results.differences import MEASURES, Differences

if TYPE_CHECKING:
    import pandas as pd

WORDS = (*SHARED, "protocol", *ROW, "status", "reason", *COLUMN, "title", "direction")
SCORES = ("mean", "low", "high", "unit", "n_seeds", "n", "reference", "best", "tier")
DIFFERENCES = ("baseline", *MEASURES, "difference_unit")
COLUMNS = (*WORDS, *SCORES, *DIFFERENCES, *Cost.model_fields)
WHOLE = ("n_seeds", "n", "tier", "pairs")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the start of a formula."""


def long(report: Report) -> pd.DataFrame:
    """Return one line per leaderboard, method, metric and group, and one per run without scores."""
    import pandas as pd

    found = [_lines(board, compared) for board, compared in report.compared]
    table = pd.concat([each.astype(object) for each in found], ignore_index=True).reindex(columns=[*COLUMNS])
    texts = (*WORDS, "unit", "baseline", "difference_unit")
    kinds: dict[str, str] = {
        name: "Int64" if name in WHOLE else "string" if name in texts else "Float64" for name in COLUMNS
    }
    return table.astype(kinds | {"best": "boolean"})


def csv_text(report: Report) -> str:
    """Return :func:`long` as CSV; a field is empty where there is no value.

    A name or reason that a spreadsheet would take for a formula has an apostrophe before it.
    """
    table = long(report)
    for name in [*WORDS, "unit", "baseline", "difference_unit"]:
        table[name] = table[name].where(~table[name].str.startswith(FORMULA).fillna(False), "'" + table[name])
    return table.to_csv(index=False, lineterminator="\n")


def parquet_bytes(report: Report) -> bytes:
    """Return :func:`long` as a parquet file, with null where there is no value."""
    buffer = io.BytesIO()
    long(report).to_parquet(buffer, index=False)
    return buffer.getvalue()


def json_text(report: Report) -> str:
    """Return all that a report holds: its frames as lists of objects."""
    content = {
        "leaderboards": [_plain(vars(board)) for board in report.leaderboards],
        "differences": [_plain(vars(each)) for each in report.differences],
        "across_tasks": asdict(report.across_tasks) if report.across_tasks else None,
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    import pandas as pd

    return {
        name: value.astype(object).where(value.notna(), None).to_dict("records")
        if isinstance(value, pd.DataFrame)
        else value
        for name, value in fields.items()
    }


def _lines(board: Leaderboard, compared: Differences | None) -> pd.DataFrame:
    import pandas as pd

    cells = board.cells.assign(status="finished", unit="seed")
    cells = cells.merge(board.costs[["label", *Cost.model_fields]], on="label", how="left")
    if compared is not None and len(compared.found):
        found = compared.found[["label", *COLUMN, *MEASURES]]
        found = found.assign(baseline=compared.baseline, difference_unit="paired seed")
        cells = cells.merge(found, on=["label", *COLUMN], how="left")
    lines = pd.concat([each.astype(object) for each in (cells, board.problems) if len(each)] or [cells])
    return lines.assign(**{name: getattr(board, name) for name in SHARED}, protocol=board.protocol or None)
