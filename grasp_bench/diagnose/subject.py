"""What is diagnosed: a run, an exported folder, or a run that has not been made yet."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from grasp_bench.bounds import is_count
from grasp_bench.errors import UserError
from grasp_bench.export.manifest import MANIFEST, read_manifest
from grasp_bench.export.restore import finished_record, plan_of, trained_weights
from grasp_bench.io import check_file
from grasp_bench.run.files import TRAIN_LOG, WEIGHTS
from grasp_bench.run.plan import Plan, plan_of_spec

if TYPE_CHECKING:
    from grasp_bench.run.context import Context


@dataclass(frozen=True)
class Subject:
    """The training of a method, finished or not."""

    plan: Plan
    """Plan of the training: its task is the one that is fine-tuned on."""
    label: str
    task_label: str
    weights: Path | None = None
    """File of the weights at the end of training, where there is one."""
    studied: dict[str, JsonValue] | None = None
    """What the method found out before training, where that came with the weights."""
    log: Path | None = None
    """File of the training log, where there is one."""

    @property
    def steps(self) -> int:
        """Number of steps of the whole training."""
        return self.plan.spec.budget.steps

    def fresh(self) -> Plan:
        """Return the plan with a method that is not attached to a backbone."""
        method = self.plan.method
        return replace(self.plan, method=type(method)(method.config))


def of_run(run: Path, task: Path | None, backbone: str | None, data_root: Path | None, work_dir: Path) -> Subject:
    """Return the subject of a finished run, named by its folder or its ``record.json``, or of an exported folder.

    Raises :class:`UserError` if the run, its weights, or a part that it was made of is missing.
    """
    if (run / MANIFEST).exists():
        return _of_export(run, task, backbone, data_root)
    path, record = finished_record(run)
    plan = plan_of(record, task, backbone, data_root)
    weights = trained_weights(plan, record, work_dir)
    return Subject(plan.trained_on, record.label, record.task_label, weights, None, path.with_name(TRAIN_LOG))


def of_plan(plan: Plan) -> Subject:
    """Return the subject of a run that is trained only as far as is needed."""
    return Subject(plan.trained_on, plan.label, plan.task_label)


def _of_export(folder: Path, task: Path | None, backbone: str | None, data_root: Path | None) -> Subject:
    manifest = read_manifest(folder)
    plan = plan_of_spec(manifest.spec, task, backbone, data_root)
    if plan.spec.id != manifest.spec.id:
        there, here = manifest.spec.task, plan.spec.task
        raise UserError(
            f"{folder / MANIFEST}: it was trained on task {there.name}@{there.version}, which has version "
            f"{here.version}, other settings or other data here. Restore the task as it was."
        )
    return Subject(plan, manifest.label, manifest.task_label, folder / WEIGHTS, manifest.artifacts)


def parse_steps(asked: str | None, subject: Subject, default: int) -> list[int]:
    """Return the steps of ``--at`` in ascending order. Raises :class:`UserError` for steps outside the training."""
    if asked is None:
        return [default]
    words = [word.strip() for word in asked.split(",")]
    if odd := next((word for word in words if not is_count(word) or int(word) > subject.steps), None):
        raise UserError(
            f"--at {asked}: expected steps from 0 to {subject.steps}, the length of the training, separated by commas; "
            f"found {odd!r}."
        )
    return sorted({int(word) for word in words})


def weights_at(subject: Subject, context: Context, step: int) -> Path | None:
    """Return the file of the weights after ``step``; None for step 0, the initial weights.

    The training is rerun up to that step, unless ``step`` is the last one and its weights exist.
    """
    if step == 0:
        return None
    if step == subject.steps and subject.weights is not None:
        return subject.weights
    return context.trained_after(step) / WEIGHTS


def training_log(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a training log: the step, the loss of every group, and the method's own diagnostics.

    Raises :class:`UserError` for a file that cannot be read, and that names the first malformed line.
    """
    try:
        text = check_file(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a training log ({error}). Rerun the run.") from error
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            row = json.loads(line)
            rows.append({name: row[name] for name in ("step", "group_loss", "method")})
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: not a row of a training log ({error}). Rerun the run.") from error
    return rows
