"""``grasp-bench migrate``: records of an older version, rewritten in the current schema."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def migrate_results(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Folder of the runs' records.")],
) -> None:
    """Rewrite records of older versions in the current schema; run ids, scores and everything else stay."""
    from grasp_bench.errors import UserError
    from grasp_bench.results.migrate import migrate

    if not results.is_dir():
        raise UserError(f"{results}: is no folder. Name the one that holds TASK/METHOD/seed-N/record.json.")
    rewritten, current, unreadable = migrate(results)
    for message in unreadable:
        print(f"left as it is: {message}", file=sys.stderr)
    print(f"{results}: files rewritten: {len(rewritten)}, already current: {current}")
    if unreadable:
        raise typer.Exit(1)
