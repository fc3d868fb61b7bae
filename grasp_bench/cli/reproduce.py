"""``grasp-bench reproduce``: rerun a recorded run, and compare its scores with the recorded ones."""

from __future__ import annotations

import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grasp_bench.cli import options as shared
from grasp_bench.terminal import tell

if TYPE_CHECKING:
    from grasp_bench.results.sharing.reproduce import Reproduction


def reproduce(
    record: Annotated[Path, typer.Argument(metavar="RECORD", help="A run's record.json, or its folder.")],
    results: Annotated[
        Path | None,
        typer.Option(help="Folder for the new record; default: below --work-dir, without which it is not kept."),
    ] = None,
    work_dir: Annotated[
        Path | None,
        typer.Option(help="New or empty folder for the stages, which is kept; default: a temporary folder."),
    ] = None,
    task: shared.TaskFile = None,
    backbone: shared.RunBackbone = None,
    data_root: shared.DataRoot = None,
    device: shared.Device = "auto",
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Rerun a recorded run from its specification, and measure differences by those between recorded seeds.

    Where each seed draws data of its own, what other data change is taken out by the rows of at least two other
    methods. Exit code 0: the scores agree; 1: they do not, or too little is recorded beside RECORD to say; 2: the run
    cannot be carried out here. RECORD is only read.
    """
    from grasp_bench.errors import NonFiniteError
    from grasp_bench.results.sharing.reproduce import recorded_plan
    from grasp_bench.results.sharing.reproduce import reproduce as rerun
    from grasp_bench.run.interruption import listen

    plan, recorded = recorded_plan(record, task, backbone, data_root)
    listen()
    place = nullcontext(str(work_dir)) if work_dir else tempfile.TemporaryDirectory(prefix="grasp-bench-")
    with place as folder:
        work = Path(folder) / "work" if work_dir is None else work_dir
        results_here = results or Path(folder) / "results"
        try:
            found = rerun(record, plan, recorded, results_here, work, device, shared.told(quiet, verbose))
        except NonFiniteError as error:
            tell(f"error: {error}", sys.stderr)
            raise typer.Exit(1) from error
        _show(found, kept=bool(results or work_dir))
    if not found.agrees:
        raise typer.Exit(1)


def _show(found: Reproduction, kept: bool) -> None:
    from grasp_bench.cli.output import console
    from grasp_bench.results.sharing.render import difference_table, reproduction_table
    from grasp_bench.results.sharing.reproduce import BEYOND

    out = console()
    verdicts = found.scores["verdict"]
    told = {"equal": "equal bit for bit", "within": "within what two seeds differ by", "outside": "further apart"}
    told |= {
        "missing": "missing or of other counts",
        "unknown": "not judged, since fewer than three seeds are recorded, or, of seeds with data of their own, fewer "
        "than two other methods",
    }
    counts = {words: int((verdicts == each).sum()) for each, words in told.items()}
    out.print(reproduction_table(found.scores))
    out.print(
        f"Streams: {'equal' if found.streams_equal else 'DIFFERENT: the rerun saw other data, noise or timesteps'}."
    )
    out.print(f"Weights: {'equal byte for byte' if found.weights_equal else 'not the same bytes'}.")
    if found.environment:
        out.print(difference_table("environment", found.environment, ("recorded", "here")))
    else:
        out.print("Environment: equal.")
    out.print(
        f"{'AGREES' if found.agrees else 'DISAGREES'}: of {len(verdicts)} scores "
        f"{', '.join(f'{count} are {words}' for words, count in counts.items() if count)}; in a run that is "
        f"reproduced at most {BEYOND:.1%} are further apart, and none missing or not judged."
    )
    if kept:
        out.print(f"record: {found.path}", markup=False, soft_wrap=True)
