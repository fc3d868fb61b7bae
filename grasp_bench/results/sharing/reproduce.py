"""A recorded run carried out again, and whether the scores are as recorded."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.record import RECORD_NAME, RunRecord, read_record
from grasp_bench.errors import UserError
from grasp_bench.export.restore import finished_record, plan_of
from grasp_bench.io import write_json
from grasp_bench.places import resolved
from grasp_bench.results.sharing.differences import Difference, environment_differences, paired_scores
from grasp_bench.results.sharing.runs import check_current, with_data
from grasp_bench.results.sharing.seeds import apart, spread_beside
from grasp_bench.run.options import Options
from grasp_bench.run.plan import Plan
from grasp_bench.run.runner import run as carry_out

if TYPE_CHECKING:
    import pandas as pd

BEYOND = 0.11
"""Largest share of scores further apart than two seeds are in 95 of 100 cases, where a run is reproduced.

It is above the 95th percentile of what seeds of recorded runs have: tests/calibration/reruns.py measures it.
"""
MARK = "reproduce.json"
"""File in a work folder that names the run that is reproduced there."""


@dataclass(frozen=True)
class Reproduction:
    """A run that was carried out again, compared with its record."""

    path: Path
    """File of the new record."""
    scores: pd.DataFrame
    """Rows of :func:`paired_scores`, of the recorded run and the rerun, with ``apart`` (:func:`seeds.apart`) and
    ``verdict``: "equal" bit for bit, "within" what two seeds differ by, "outside" of it, "unknown" where too little
    is recorded to say, or "missing": no value in one run, or of another number of images."""
    streams_equal: bool
    """Whether both saw the same data order, noise, timesteps and dropped prompts."""
    weights_equal: bool
    """Whether the trained weights are equal byte for byte; on another machine they rarely are."""
    environment: list[Difference]

    @property
    def agrees(self) -> bool:
        """Whether the streams are equal, and the scores are, or differ by no more than those of another seed.

        No score may be missing or unknown, and no more than :data:`BEYOND` of them outside.
        """
        verdicts = self.scores["verdict"]
        judged = not verdicts.isin(["unknown", "missing"]).any()
        return self.streams_equal and judged and bool((verdicts == "outside").mean() <= BEYOND)


def recorded_plan(
    run: Path, task: Path | None = None, backbone: str | None = None, data_root: Path | None = None
) -> tuple[Plan, RunRecord]:
    """Return the plan of a finished run and its record; arguments are those of :func:`plan_of`.

    Raises :class:`UserError` that says what is in the way: a task, method, guidance, backbone, extractor or stage of
    another version, a plugin that is not installed, missing data.
    """
    _, record = finished_record(run)
    plan = plan_of(record, task, backbone, data_root)
    check_current(run, plan, record)
    generator = plan.generator and with_data(plan.generator, None)
    return replace(with_data(plan, data_root), generator=generator, tuned=record.tuned), record


def reproduce(
    run: Path, plan: Plan, record: RunRecord, results: Path, work_dir: Path, device: str, progress: Progress
) -> Reproduction:
    """Carry out ``plan`` in ``work_dir``, write its record to ``results``, and compare it with ``record`` of ``run``.

    Threads and parts of a batch are as many as in the record, if this machine has as many. An interrupted reproduction
    resumes in the same ``work_dir``. Raises :class:`UserError` if other work lies there, if ``results`` holds a
    finished record of the run, if a record beside ``run`` cannot be read, and if the method does not apply here.
    """
    folder = results / plan.folder
    _check_free(folder / RECORD_NAME, run)
    spread = spread_beside(run if run.is_file() else run / RECORD_NAME)  # a fault there is found before the work
    _claim(work_dir, record)
    there = record.environment
    options = Options(
        results,
        work_dir,
        device,
        gradient_checkpointing=there.gradient_checkpointing,
        accumulate=there.accumulate,
        threads=there.threads if there.threads <= (os.cpu_count() or 1) else None,  # the order of sums depends on it
    )
    path, rerun = carry_out(plan, options, progress)
    if rerun.status != "finished":
        raise UserError(f"{run}: it cannot be carried out again, since it is {rerun.status}: {rerun.reason}")
    return compare_with_record(record, rerun, path, spread)


def compare_with_record(recorded: RunRecord, rerun: RunRecord, path: Path, spread: pd.DataFrame) -> Reproduction:
    """Compare the new record, in ``path``, with the recorded one, by the ``spread`` of :func:`spread_beside`."""
    scores = paired_scores(recorded, rerun)
    value, n = scores["value_b"], scores["n_a"] == scores["n_b"]
    equal = n & ((value == scores["value_a"]) | (value.isna() & scores["value_a"].isna()))
    missing = ~n | (value.isna() != scores["value_a"].isna())
    ratio = apart(scores, spread)
    verdict = (ratio <= 1).map({True: "within", False: "outside"}).mask(ratio.isna(), "unknown")
    verdict = verdict.mask(missing, "missing").mask(equal, "equal")
    return Reproduction(
        path=path,
        scores=scores.assign(apart=ratio, verdict=verdict),
        streams_equal=recorded.streams == rerun.streams,
        weights_equal=recorded.weights == rerun.weights,
        environment=environment_differences(recorded, rerun),
    )


def _check_free(path: Path, run: Path) -> None:
    """Raise :class:`UserError` if a finished record would be taken for the new one, or be overwritten."""
    if path.is_file() and read_record(path).status == "finished":
        same = "that record" if resolved(path) in (resolved(run), resolved(run / RECORD_NAME)) else "a finished run"
        raise UserError(f"{path}: {same} lies where the new one would go. Choose another folder with --results.")


def _claim(work_dir: Path, record: RunRecord) -> None:
    """Mark a work folder as this reproduction's. Raises :class:`UserError` if other work lies in it."""
    mark, mine = work_dir / MARK, {"run_id": record.run_id}
    if not work_dir.exists() or (work_dir.is_dir() and not any(work_dir.iterdir())):
        write_json(mark, mine)
    elif not mark.is_file() or record.run_id not in mark.read_text(errors="replace"):
        raise UserError(
            f"--work-dir {work_dir}: other work lies there, which a rerun may not use. Choose a new or empty folder, "
            "or that of an interrupted reproduction of this run."
        )
