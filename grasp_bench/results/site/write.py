"""Writing the page: everything in one file, which loads nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from grasp_bench.io import write_bytes
from grasp_bench.results.forest import forest
from grasp_bench.results.load import FoundRun
from grasp_bench.results.site import view
from grasp_bench.results.site.beside import MARK, PAGE, RUNS, Beside, Files, check_folder, packed
from grasp_bench.results.site.boards import Board, read_boards
from grasp_bench.results.site.charts import metric_charts, routing_charts, training_chart
from grasp_bench.results.site.comparisons import over_tasks
from grasp_bench.results.site.drawing import library, specification, swatch
from grasp_bench.results.site.overview import overview
from grasp_bench.results.site.rules import RULES
from grasp_bench.results.site.samples import Allowance, samples
from grasp_bench.text import counted

HERE = Path(__file__).parent


def write_site(
    runs: Sequence[FoundRun], folder: Path, baseline: str | None = None, *, single_file: bool = False
) -> Path:
    """Write the page of ``runs`` as ``folder/index.html`` and return its path.

    Records, logs and images that it does not show at first lie beside it; a ``single_file`` holds them, as far as they
    fit, and says what it leaves out. Equal results give equal bytes. ``baseline`` names the row that others are
    compared with at first. Raises :class:`UserError` if the baseline is not a row, the folder holds anything else, or
    the page cannot be written.
    """
    check_folder(folder)
    boards = read_boards(runs, baseline)
    path, beside = folder / PAGE, Beside()
    text = page(boards, None if single_file else beside)
    write_bytes(path, text.encode(errors="backslashreplace"))  # a lone surrogate, which JSON can hold
    beside.write(folder)  # last: by the page a call after one that was killed knows whose folder it is
    return path


def page(boards: list[Board], beside: Beside | None = None) -> str:
    """Return the HTML of the page; what it refers to is added to ``beside``, without which it holds everything."""
    style, script = (_static(name) for name in ("page.css", "page.js"))
    files, allowance = Files(beside), Allowance()
    shown = [_shown(board, number, files, allowance) for number, board in enumerate(boards, 1)]
    images = "data: 'self'" if beside else "data:"
    policy = (
        f"default-src 'none'; img-src {images}; style-src '{_hash(style)}'; "
        f"script-src '{_hash(library())}' '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
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
        mark=Markup(MARK),
        forest=specification(forest(), "Differences to a baseline with their intervals."),
        packed_json=_packed_json,
        left_out=_left_out(boards, files),
        style=Markup(style),
        library=Markup(library()),
        script=Markup(script),
        policy=policy,
        data={
            "files": files.held,
            "samples": {each["id"]: each["samples"].choices() for each in shown},
            "metrics": view.meanings(boards),
            "beside": RUNS if beside else "",
            "boards": {each["id"]: each["overview"] for each in shown},
        },
    )


def _packed_json(value: Any) -> str:
    """Return JSON as gzip in base64, which ends no script element and is a quarter as long."""
    return packed(json.dumps(value, separators=(",", ":"), allow_nan=False).encode())


def _shown(board: Board, number: int, files: Files, allowance: Allowance) -> dict[str, Any]:
    """Return what the template shows of one leaderboard."""
    records = [run.record for each in board.runs.values() for run in each]
    first = board.main[0] if board.main else None
    shown = overview(board)
    said = [
        each["said"] for each in shown["columns"] if first and (each["key"], each["group"]) == (first.key, first.rarest)
    ]
    by_metric = {metric.key: list(metric_charts(board, metric)) for metric in board.main}
    return {
        "id": f"board-{number}",
        "title": view.title(board.table),
        "conditions": view.conditions(board.table),
        "columns": view.columns(board),
        "lines": view.lines(board),
        "references": view.references(board),
        "overview": shown,
        "answer": said[0] if said else "",
        "divisions": sorted({record.division for record in records}),
        "groups": list(dict.fromkeys(group for metric in board.metrics for group in metric.groups)),
        "guidances": sorted({record.spec.guidance.name for record in records}),
        "notes": view.notes(board.table),
        "first_metric": first.key if first else "",
        "first_group": first.rarest if first else "",
        "metrics": board.metrics,
        "all_metrics": board.all_rows.metrics,
        "main": board.main,
        "by_metric": by_metric,
        "other_charts": [*training_chart(board), *routing_charts(board)],
        "highlighted": board.highlighted,
        "names": board.names,
        "samples": samples(board, allowance, files.beside),
        "entries": list(view.entries(board, f"b{number}", files)),
    }


def _left_out(boards: list[Board], files: Files) -> list[str]:
    unreadable = [
        path for board in boards for runs in board.runs.values() for run in runs for path in run.files.unreadable
    ]
    said = [f"{path}: cannot be read." for path in unreadable]
    if files.left_out:
        said.append(f"Records and logs of {counted(files.left_out, 'run')}, which lie in the results folder.")
    return said


def _template(name: str) -> str:
    """Return a template without its indentation, which would be a twentieth of a large page."""
    return re.sub("^ +", "", (HERE / "templates" / name).read_text(encoding="utf-8"), flags=re.MULTILINE)


def _static(name: str) -> str:
    return (HERE / "static" / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    """Return how a content security policy names an inline style or script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
