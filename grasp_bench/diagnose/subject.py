"""What is diagnosed: a run, what was exported of one, or a run that is yet to be made."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from grasp_bench.errors import UserError
from grasp_bench.export.manifest import MANIFEST, read_manifest
from grasp_bench.export.restore import WEIGHTS, find_record, plan_as_here, plan_of, trained_weights
from grasp_bench.run.plan import Plan

if TYPE_CHECKING:
    from grasp_bench.run.pipeline import Pipeline

LOG = "train.jsonl"


@dataclass(frozen=True)
class Subject:
    """A training of a method."""

    plan: Plan
    """Of the training: its task is the one that is fine-tuned on."""
    label: str
    task_label: str
    weights: Path | None = None
    """Those at the end, where they are known."""
    studied: dict[str, JsonValue] | None = None
    """What the method found out before it was trained, where that came with the weights."""
    log: Path | None = None
    """The training's log, where it is known."""

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self.plan.spec.budget.steps

    def fresh(self) -> Plan:
        """The plan with a method that is attached nowhere."""
        method = self.plan.method
        return replace(self.plan, method=type(method)(method.config))


def of_run(run: Path, task: Path | None, backbone: str | None, data_root: Path | None, work_dir: Path) -> Subject:
    """A finished run, by its folder or its ``record.json``, or an exported folder.

    Raises :class:`UserError` where it, its weights, or what it was made of are not there.
    """
    if (run / MANIFEST).exists():
        return _of_export(run, task, backbone, data_root)
    path, record = find_record(run)
    plan = plan_of(record, task, backbone, data_root)
    weights = trained_weights(plan, record, work_dir)
    return Subject(plan.trained_on, record.label, record.task_label, weights, None, path.with_name(LOG))


def of_plan(plan: Plan) -> Subject:
    """A run that is trained as far as is needed."""
    return Subject(plan.trained_on, plan.label, plan.task_label)


def _of_export(folder: Path, task: Path | None, backbone: str | None, data_root: Path | None) -> Subject:
    manifest = read_manifest(folder)
    plan = plan_as_here(manifest.spec, task, backbone, data_root)
    if plan.spec.id != manifest.spec.id:
        there, here = manifest.spec.task, plan.spec.task
        raise UserError(
            f"{folder / MANIFEST}: it was trained on task {there.name}@{there.version}, which is of version "
            f"{here.version} here, or has other settings or data. Restore what it was."
        )
    return Subject(plan, manifest.label, manifest.task_label, folder / WEIGHTS, manifest.artifacts)


def parse_steps(asked: str | None, subject: Subject, default: int) -> list[int]:
    """The steps of ``--at``, ascending. Raises :class:`UserError` for those that are none of the training."""
    if asked is None:
        return [default]
    words = [word.strip() for word in asked.split(",")]
    if odd := next((word for word in words if not word.isdecimal() or int(word) > subject.steps), None):
        raise UserError(
            f"--at {asked}: expected steps from 0 to {subject.steps}, after which the training ends, separated by "
            f"commas; found {odd!r}."
        )
    return sorted({int(word) for word in words})


def weights_at(subject: Subject, pipeline: Pipeline, step: int) -> Path | None:
    """The file of the weights after ``step``; None for those that training begins with.

    The training is made again as far as that step, unless it is the last of weights that are there.
    """
    if step == 0:
        return None
    if step == subject.steps and subject.weights is not None:
        return subject.weights
    return pipeline.trained_after(step) / WEIGHTS


def training_log(path: Path) -> list[dict[str, Any]]:
    """What a training's log tells over its steps: step, loss of every group, and what the method says of itself.

    Raises :class:`UserError` that names the line that is none of a log.
    """
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            row = json.loads(line)
            rows.append({name: row[name] for name in ("step", "group_loss", "method")})
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}, line {number}: not a row of a training log ({error}). Make the run again."
            ) from error
    return rows
