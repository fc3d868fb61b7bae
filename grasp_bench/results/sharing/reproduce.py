"""A recorded run carried out again, and whether it came out as recorded."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.record import RECORD_NAME, RunRecord, Score, read_record
from grasp_bench.errors import UserError
from grasp_bench.export.restore import plan_of
from grasp_bench.io import write_json
from grasp_bench.results.sharing.compare import by_place, inside, name_of
from grasp_bench.results.sharing.differences import Difference, environment_differences
from grasp_bench.results.sharing.runs import check_current, finished_run, with_data
from grasp_bench.run.context import Options
from grasp_bench.run.plan import Plan
from grasp_bench.run.runner import run as carry_out

MARK = "reproduce.json"
"""In a work folder: which run is carried out there again."""

Verdict = Literal["equal", "within", "outside"]


@dataclass(frozen=True)
class Agreement:
    """One score, recorded and anew."""

    name: str
    label: str
    group: str
    scope: str
    recorded: Score | None
    anew: Score | None
    verdict: Verdict
    """Equal bit for bit, within the recorded interval, or neither."""
    unit: str | None
    """What the recorded interval redraws, where there is one."""


@dataclass(frozen=True)
class Reproduction:
    """What became of a run that was carried out again."""

    recorded: RunRecord
    anew: RunRecord
    path: Path
    """Of the new record."""
    scores: list[Agreement]
    streams_equal: bool
    """Whether both saw the same data order, noise, timesteps and dropped prompts."""
    weights_equal: bool
    """Whether the trained weights are equal byte for byte; on another machine they rarely are."""
    environment: list[Difference]

    @property
    def agrees(self) -> bool:
        """Whether the streams are equal, and every score is, or lies within the recorded interval."""
        return self.streams_equal and all(score.verdict != "outside" for score in self.scores)


def recorded_plan(
    run: Path, task: Path | None = None, backbone: str | None = None, data_root: Path | None = None
) -> tuple[Plan, RunRecord]:
    """What a finished run was, ready to be carried out again; arguments as :func:`plan_of` has them.

    Raises :class:`UserError` that says what is in the way: a task, method, guidance, backbone, extractor or stage of
    another version, a plugin that is not installed, data that are not here.
    """
    record = finished_run(run).record
    plan = plan_of(record, task, backbone, data_root)
    check_current(run, plan, record)
    generator = plan.generator and with_data(plan.generator, None)
    return replace(with_data(plan, data_root), generator=generator, tuned=record.tuned), record


def reproduce(
    run: Path, plan: Plan, record: RunRecord, results: Path, work_dir: Path, device: str, progress: Progress
) -> Reproduction:
    """Carry out ``plan`` in ``work_dir``, write its record to ``results``, and hold it against ``record`` of ``run``.

    As many threads are used as the record tells of, where there are as many, and as many parts of a batch. An
    interrupted reproduction goes on in the same ``work_dir``. Raises :class:`UserError` where other work lies there,
    where ``results`` holds a finished record of the run, and where the method does not apply here.
    """
    folder = results / plan.task_label / plan.label / f"seed-{plan.spec.seed}"
    _check_free(folder / RECORD_NAME, run)
    _claim(work_dir, record)
    _set_threads(record.environment.threads)
    options = Options(results, work_dir, device, accumulate=record.environment.accumulate)
    path, anew = carry_out(plan, options, progress)
    if anew.status != "finished":
        raise UserError(f"{run}: it cannot be carried out again, since it is {anew.status}: {anew.reason}")
    return held_against(record, anew, path)


def held_against(recorded: RunRecord, anew: RunRecord, path: Path) -> Reproduction:
    """The new record beside the recorded one."""
    before, after = by_place(recorded), by_place(anew)
    return Reproduction(
        recorded=recorded,
        anew=anew,
        path=path,
        scores=[_agreement(before.get(place), after.get(place)) for place in dict.fromkeys([*before, *after])],
        streams_equal=recorded.streams == anew.streams,
        weights_equal=recorded.weights == anew.weights,
        environment=environment_differences(recorded, anew),
    )


def _agreement(recorded: Score | None, anew: Score | None) -> Agreement:
    known = recorded or anew
    assert known
    verdict: Verdict = "outside"
    if recorded is not None and anew is not None:
        if (recorded.value, recorded.n) == (anew.value, anew.n):
            verdict = "equal"
        elif recorded.n == anew.n and inside(anew.value, recorded):
            verdict = "within"
    unit = recorded.interval.unit if recorded is not None and recorded.interval else None
    return Agreement(name_of(known), known.label, known.group, known.scope, recorded, anew, verdict, unit)


def _check_free(path: Path, run: Path) -> None:
    """Raise :class:`UserError` where a finished record would be taken for the new one, or be overwritten."""
    if path.is_file() and read_record(path).status == "finished":
        same = "that record" if path.resolve() in (run.resolve(), (run / RECORD_NAME).resolve()) else "a finished run"
        raise UserError(f"{path}: {same} lies where the new one would go. Choose another folder with --results.")


def _claim(work_dir: Path, record: RunRecord) -> None:
    """Mark a work folder as this reproduction's. Raises :class:`UserError` where other work lies in it."""
    mark, mine = work_dir / MARK, {"run_id": record.run_id}
    if not work_dir.exists() or (work_dir.is_dir() and not any(work_dir.iterdir())):
        write_json(mark, mine)
    elif not mark.is_file() or record.run_id not in mark.read_text(errors="replace"):
        raise UserError(
            f"--work-dir {work_dir}: other work lies there, which a run made afresh may not use. Choose a folder that "
            "is new or empty, or that of an interrupted reproduction of this run."
        )


def _set_threads(count: int) -> None:
    """Compute in as many threads as the record tells of, since the order of sums depends on it."""
    import torch

    if count <= (os.cpu_count() or 1):
        torch.set_num_threads(count)
