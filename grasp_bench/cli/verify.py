"""``grasp-bench verify``: whether a pack's scores follow from its features, under the rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grasp_bench.cli import options as shared
from grasp_bench.text import counted

if TYPE_CHECKING:
    from rich.text import Text

    from grasp_bench.results.sharing.verify import Verification

MARKS = {"passed": "ok", "provisional": "provisional", "unverifiable": "not verified", "failed": "FAILED"}


def verify(
    pack: Annotated[Path, typer.Argument(metavar="PACK", help="What `grasp-bench submit` wrote.")],
    json_path: shared.Json = None,
    task: shared.TaskFile = None,
    backbone: shared.RunBackbone = None,
    data_root: shared.RunDataRoot = None,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Check hashes, format, versions and the fairness rules, and recompute the scores from the features.

    Exit code 0: everything that a pack can show is right; 1: something is wrong; 2: something cannot be checked here.
    Nothing in PACK is run, and no name in it becomes a file.
    """
    from grasp_bench.cli.output import console
    from grasp_bench.cli.outputs import check_json, write_outcome
    from grasp_bench.results.sharing.verify import BEYOND
    from grasp_bench.results.sharing.verify import verify as check

    check_json(json_path, "verify")
    found = check(pack, task, backbone, data_root, shared.told(quiet, verbose).say)
    failed, open_ = found.count("failed"), found.count("unverifiable")
    if json_path:
        verdict = "failed" if failed else "unverifiable" if open_ else "verified"
        checks = [asdict(each) for each in found.checks]
        payload = {"pack": found.sha256, "verdict": verdict, "runs": found.runs, "checks": checks}
        write_outcome(json_path, "verify", payload | {"beyond_any_pack": list(BEYOND)})
    out = console()
    for line in _lines(found):
        out.print(line, soft_wrap=True)
    out.print("No pack can show:", *(f"  - {each}" for each in BEYOND), sep="\n", markup=False, soft_wrap=True)
    counts = ", ".join(f"{found.count(outcome)} {word}" for outcome, word in MARKS.items())  # type: ignore[arg-type]
    told = "FAILED" if failed else "NOT VERIFIED in full" if open_ else "VERIFIED"
    out.print(
        f"{told}: {counted(len(found.runs), 'run')}; {counts}. sha256 of the pack: {found.sha256}", soft_wrap=True
    )
    if failed or open_:
        raise typer.Exit(1 if failed else 2)


def _lines(found: Verification) -> Iterator[Text]:
    """Yield the checks, under the run, task or file that they concern."""
    from rich.text import Text

    width = max(map(len, MARKS.values()))
    for of in dict.fromkeys(check.of for check in found.checks):
        yield Text(of, style="bold")
        for check in found.checks:
            if check.of == of:
                detail = f": {check.detail}" if check.detail else ""
                yield Text(f"  {MARKS[check.outcome]:{width}}  {check.what}{detail}")
