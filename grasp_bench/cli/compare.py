"""``grasp-bench compare``: what differs between two runs, in their specifications and in their scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grasp_bench.cli import options as shared
from grasp_bench.errors import UserError


def compare(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="A run's folder, or its record.json.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another run.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Also draw the samples side by side, and the scores as bars."),
    ] = None,
    json_path: shared.Json = None,
) -> None:
    """Say whether two runs are comparable, what differed between them, and how their scores differ."""
    from grasp_bench.cli.output import console
    from grasp_bench.cli.outputs import check_json, check_replaceable, has_mark, mark_of, write_outcome
    from grasp_bench.export.restore import find_record
    from grasp_bench.results.sharing.compare import compare as side_by_side
    from grasp_bench.results.sharing.render import json_payload, rich_comparison
    from grasp_bench.results.sharing.seeds import spread_beside

    if out is not None and out.suffix.lower() != ".png":
        raise UserError(f"--out {out}: the picture is a PNG. Name a file that ends in .png.")
    check_json(json_path, "compare")
    check_replaceable(out, "compare", has_mark("compare"))
    (path_a, a), (path_b, b) = find_record(run_a), find_record(run_b)
    found = side_by_side(a, b, spread_beside(path_a, path_b))
    if json_path:
        write_outcome(json_path, "compare", json_payload(found))
    if out:
        from grasp_bench.results.sharing.picture import write_comparison

        write_comparison(out, found, (path_a.parent, path_b.parent), mark_of("compare"))
    console().print(rich_comparison(found))
