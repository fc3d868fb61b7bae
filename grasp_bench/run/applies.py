"""Whether a method, and a guidance with it, can be carried out on a backbone and a task."""

from __future__ import annotations

from grasp_bench.adapters.tread import refusal
from grasp_bench.contracts.backbone import Backbone
from grasp_bench.contracts.guidance import Guidance
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.contracts.settings import Settings
from grasp_bench.contracts.task import Task, TaskSettings
from grasp_bench.errors import Skip


def why_not(
    backbone: Backbone,
    task: Task[TaskSettings],
    method: Method[MethodSettings],
    guidance: Guidance[Settings] | None = None,
) -> Skip | None:
    """Return why the method does not apply, or the guidance if one is given, or None where both do."""
    skip = method.supports(backbone, task) or (refusal(backbone) if method.config.tread else None)
    return skip or (guidance.supports(backbone, method) if guidance else None)
