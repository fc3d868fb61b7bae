"""Writing the page: everything in one file, which loads nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from grasp_bench.io import write_bytes
from grasp_bench.results.load import FoundRun
from grasp_bench.results.site import view
from grasp_bench.results.site.boards import Board, read_boards
from grasp_bench.results.site.charts import metric_charts, training_chart
from grasp_bench.results.site.comparisons import against, over_tasks
from grasp_bench.results.site.plots import swatch
from grasp_bench.results.site.routing import routing_charts
from grasp_bench.results.site.rules import RULES
from grasp_bench.results.site.samples import Allowance, samples

PAGE = "index.html"
HIGHLIGHTED = 6  # methods that charts show in colour at first
HERE = Path(__file__).parent


def write_site(runs: Sequence[FoundRun], folder: Path, baseline: str | None = None) -> Path:
    """Write the page of ``runs`` as ``folder/index.html`` and return its path.

    It holds tables, charts, images, records and logs, as far as they fit, and says what it leaves out; equal results
    give equal bytes. ``baseline`` names the row that others are compared with. Raises :class:`UserError` if the
    baseline is not a row, or the page cannot be written.
    """
    boards = read_boards(runs)
    path = folder / PAGE
    text = page(boards, baseline)
    write_bytes(path, text.encode(errors="backslashreplace"))  # a lone surrogate, which JSON can hold
    return path


def page(boards: list[Board], baseline: str | None = None) -> str:
    """Return the HTML of the page."""
    style, script = (_static(name) for name in ("page.css", "page.js"))
    files, allowance = view.Files(), Allowance()
    shown = [_shown(board, number, files, allowance, baseline) for number, board in enumerate(boards, 1)]
    for each, charts in zip(shown, against(boards, baseline) if baseline else [], strict=bool(baseline)):
        for name, chart in charts.items():
            each["by_metric"][name].append(chart)
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        boards=shown,
        over_tasks=over_tasks(boards),
        rules=RULES,
        glossary=view.glossary(boards),
        swatch=swatch,
        left_out=_left_out(boards, files),
        style=Markup(style),
        script=Markup(script),
        policy=policy,
        data=script_json(
            {
                "files": files.held,
                "samples": {each["id"]: each["samples"].choices() for each in shown},
                "metrics": view.meanings(boards),
            }
        ),
    )


def script_json(value: Any) -> Markup:
    """Return JSON that cannot end the script element around it."""
    written = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for special in "<>&":
        written = written.replace(special, f"\\u{ord(special):04x}")
    return Markup(written)


def _shown(board: Board, number: int, files: view.Files, allowance: Allowance, baseline: str | None) -> dict[str, Any]:
    """Return what the template shows of one leaderboard."""
    records = [run.record for each in board.runs.values() for run in each]
    by_metric = {metric.key: list(metric_charts(board, metric)) for metric in board.main}
    return {
        "id": f"board-{number}",
        "title": view.title(board.table),
        "conditions": view.conditions(board.table),
        "columns": view.columns(board),
        "lines": view.lines(board),
        "references": view.references(board),
        "groups": list(dict.fromkeys(group for metric in board.metrics for group in metric.groups)),
        "guidances": sorted({record.spec.guidance.name for record in records}),
        "statuses": sorted({record.status for record in records}),
        "notes": view.notes(board.table),
        "first_metric": board.main[0].key if board.main else "",
        "metrics": board.metrics,
        "main": board.main,
        "by_metric": by_metric,
        "other_charts": [*training_chart(board), *routing_charts(board)],
        "highlighted": _highlighted(board, baseline),
        "samples": samples(board, allowance),
        "entries": list(view.entries(board, f"b{number}", files)),
    }


def _highlighted(board: Board, baseline: str | None) -> list[str]:
    """Return the rows in colour at first: the best row of each of the best methods, and the baseline."""
    if not board.main:
        return []
    best: dict[str, str] = {}
    for label in board.main[0].means().index:
        best.setdefault(board.rows[str(label)]["method"], str(label))
    shown = list(best.values())[:HIGHLIGHTED]
    return list(dict.fromkeys([*shown, *([baseline] if baseline in board.indices else [])]))


def _left_out(boards: list[Board], files: view.Files) -> list[str]:
    unreadable = [
        path for board in boards for runs in board.runs.values() for run in runs for path in run.files.unreadable
    ]
    said = [f"{path}: cannot be read." for path in unreadable]
    if files.left_out:
        said.append(f"Records and logs of {files.left_out} runs, which lie in the results folder.")
    return said


def _static(name: str) -> str:
    return (HERE / "static" / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    """Return how a content security policy names an inline style or script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
