"""A run of digits-lt on a device beside the committed record of the same specification that a CPU made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.record import RECORD_NAME, RunRecord, read_record
from grasp_bench.errors import UserError
from grasp_bench.results.sharing.reproduce import BEYOND, Reproduction, recorded_plan, reproduce
from grasp_bench.run.plan import Plan

from .recording import Measure, timed

TASK, METHOD = "digits-lt", "grasp"


def find(results: Path, budget: str) -> tuple[Path, Plan, RunRecord] | str:
    """Return a record of GRASP at seed 0 that a CPU made and that this version can rerun; in words why there is none.

    Of several the one with the shortest label, which is nearest to the defaults, is taken.
    """
    reasons: dict[str, None] = {}
    folders = (path for path in results.glob(f"**/{METHOD}*/seed-0/{RECORD_NAME}") if TASK in path.parts[-4])
    for path in sorted(folders, key=lambda each: (len(each.parts[-3]), str(each))):
        record = read_record(path)
        spec = record.spec
        if (spec.task.name, spec.method.name, spec.budget.name) != (TASK, METHOD, budget):
            continue
        if record.environment.device != "cpu" or record.status != "finished":
            continue
        try:
            plan, record = recorded_plan(path)
        except UserError as error:
            reasons[str(error).removeprefix(f"{path}: ")] = None
        else:
            return path, plan, record
    return "; ".join(reasons) or f"no record of {METHOD} on {TASK} with budget {budget}, seed 0, made on a CPU"


def carried_out(
    known: tuple[Path, Plan, RunRecord], work: Path, device: torch.device, details: Mapping[str, Any], root: Path
) -> Iterator[Measure]:
    """Carry the recorded run out on the device, and yield its time, its worst score and whether it agrees."""
    path, plan, record = known
    threads = torch.get_num_threads()
    try:
        seconds, found = timed(
            lambda: reproduce(path, plan, record, work / "results", work / "work", str(device), Progress())
        )
    finally:
        torch.set_num_threads(threads)  # reproduce() takes those of the record
    details = {**details, "record": str(path.relative_to(root))}
    how = f"Budget {record.spec.budget.name}, seed 0; threads as recorded: {record.environment.threads}."
    yield from_end_to_end(seconds, how, details)
    verdicts = found.scores["verdict"]
    yield Measure(
        name=f"{TASK}, {METHOD}: scores further from the CPU's record than two seeds are apart",
        value=float((verdicts == "outside").mean()),
        unit="of all",
        at_most=BEYOND,
        method="Two seeds: the difference that two recorded seeds stay below in 95 of 100 cases.",
        details=details | {"verdicts": verdicts.value_counts().to_dict(), "fd": distances(found)},
    )
    yield Measure(
        name=f"{TASK}, {METHOD}: agrees with the CPU's record",
        value=float(found.agrees),
        unit="",
        at_least=1,
        method="As `grasp-bench reproduce` has it: streams equal, no score missing or not judged, few further apart.",
        details=details | {"streams_equal": found.streams_equal, "weights_equal": found.weights_equal},
    )


def absent(reason: str, details: Mapping[str, Any]) -> Measure:
    """Say that nothing could be compared, and why."""
    return Measure(
        name=f"{TASK}, {METHOD}: not compared with a CPU's record: {reason}",
        value=0,
        unit="",
        at_least=1,
        method="A record below results/ that `grasp-bench reproduce` takes.",
        details={**details, "not_compared": reason},
    )


def from_end_to_end(seconds: float, method: str, details: Mapping[str, Any]) -> Measure:
    """Seconds of a whole run."""
    return Measure(f"{TASK}, {METHOD}, from end to end", seconds, "s", method, details=details)


def distances(found: Reproduction) -> list[dict[str, Any]]:
    """Return the Fréchet distances of groups of generated images: recorded, here, and the ratio of here to recorded."""
    scores = found.scores.reset_index()
    rows = scores[(scores["metric"] == "fd") & (scores["source"] == "generated") & (scores["scope"] == "group")]
    rows = rows.dropna(subset=["value_a", "value_b"])
    return [
        {"group": each.group, "recorded": each.value_a, "here": each.value_b, "ratio": each.value_b / each.value_a}
        for each in rows.itertuples()
    ]
