"""``grasp-bench reproduce``: a recorded run made again, and whether its scores come out as recorded."""

from __future__ import annotations

import signal
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grasp_bench.cli import options as shared

if TYPE_CHECKING:
    from grasp_bench.results.sharing.reproduce import Reproduction


def reproduce(
    record: Annotated[Path, typer.Argument(metavar="RECORD", help="A run's record.json, or its folder.")],
    results: Annotated[
        Path | None, typer.Option(help="Where the new record goes; if absent, below --work-dir, or it is not kept.")
    ] = None,
    work_dir: Annotated[
        Path | None, typer.Option(help="New or empty folder for the stages, and kept; a temporary one if absent.")
    ] = None,
    task: shared.TaskFile = None,
    backbone: shared.RunBackbone = None,
    data_root: shared.DataRoot = None,
    device: shared.Device = "auto",
) -> None:
    """Carry out a recorded run again from its specification, and hold every score against the recorded interval.

    Exit code 0: all agree; 1: something does not; 2: it cannot be carried out here, and why. RECORD is only read.
    """
    from grasp_bench.contracts.progress import Progress
    from grasp_bench.errors import NonFiniteError
    from grasp_bench.results.sharing.reproduce import recorded_plan
    from grasp_bench.results.sharing.reproduce import reproduce as make_again

    plan, recorded = recorded_plan(record, task, backbone, data_root)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    place = nullcontext(str(work_dir)) if work_dir else tempfile.TemporaryDirectory(prefix="grasp-bench-")
    with place as folder:
        work = Path(folder) / "work" if work_dir is None else work_dir
        results_here = results or Path(folder) / "results"
        try:
            found = make_again(record, plan, recorded, results_here, work, device, Progress())
        except NonFiniteError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(1) from error
        _show(found, kept=bool(results or work_dir))
    if not found.agrees:
        raise typer.Exit(1)


def _show(found: Reproduction, kept: bool) -> None:
    from grasp_bench.cli.output import console
    from grasp_bench.results.sharing.render import difference_table, reproduction_table

    out, total = console(), len(found.scores)
    counts = {verdict: sum(score.verdict == verdict for score in found.scores) for verdict in ("equal", "within")}
    out.print(reproduction_table(found.scores))
    out.print(f"Streams: {'equal' if found.streams_equal else 'DIFFERENT: it saw other data, noise or timesteps'}.")
    out.print(f"Weights: {'equal byte for byte' if found.weights_equal else 'not the same bytes'}.")
    if found.environment:
        out.print(difference_table("environment", found.environment, ("recorded", "here")))
    else:
        out.print("Environment: equal.")
    outside = total - counts["equal"] - counts["within"]
    out.print(
        f"{'AGREES' if found.agrees else 'DISAGREES'}: of {total} scores {counts['equal']} are equal bit for bit, "
        f"{counts['within']} lie within the recorded interval, {outside} do not."
    )
    if kept:
        out.print(f"record: {found.path}", markup=False, soft_wrap=True)
