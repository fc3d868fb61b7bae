"""The prepare stage: a task's download, checked and listed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from grasp_bench.contracts.spec import Component
from grasp_bench.contracts.task import Task, TaskSettings
from grasp_bench.run.context import Context, Inputs, Stage
from grasp_bench.run.plan import Plan


def _inputs(plan: Plan, upstream: Mapping[str, str]) -> Inputs:
    return _of(plan.spec.task, plan.task)


def _of(component: Component, opened: Task[TaskSettings]) -> Inputs:
    task = component.model_dump(mode="json")
    for name in TaskSettings.model_fields:  # settings of every task concern training and scores, not the data
        task["settings"].pop(name, None)
    inputs: Inputs = {"task": task}
    return inputs | ({"drawn": drawn} if (drawn := opened.drawn()) else {})


def prepare_inputs(name: str, task: Task[TaskSettings]) -> Inputs:
    """Return what decides the outcome of the stage for a task, whatever run it is part of."""
    component = Component(name=name, version=task.version, settings=task.identity())
    return {"stage_version": STAGE.version} | _of(component, task)


def _build(context: Context, folder: Path, upstream: Mapping[str, Path]) -> None:
    context.plan.task.prepare(folder, context.progress)


STAGE = Stage("prepare", 1, (), _inputs, _build, alone=True)
