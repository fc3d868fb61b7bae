"""A report in each of its formats."""

from __future__ import annotations

from grasp_bench.results import grids
from grasp_bench.results.build import Report
from grasp_bench.results.latex import latex
from grasp_bench.results.long import csv_text, json_text, parquet_bytes
from grasp_bench.results.markdown import markdown
from grasp_bench.results.text import terminal

FORMATS = ("table", "markdown", "csv", "json", "latex", "parquet")


def rendered(report: Report, form: str, width: int = 100) -> bytes:
    """Return the report as a file of one of :data:`FORMATS`; ``width`` is that of the tables, in columns of text."""
    if form == "parquet":
        return parquet_bytes(report)
    if form in ("csv", "json"):
        return (csv_text if form == "csv" else json_text)(report).encode()
    sections = grids.sections(report)
    if form == "table":
        return terminal(sections, width).encode()
    return {"markdown": markdown, "latex": latex}[form](sections).encode()
