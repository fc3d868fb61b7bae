"""What a method is given and may only read: copies to compare with what it left."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from grasp_bench.contracts.method import Batch
from grasp_bench.contracts.task import Split, Task, TaskSettings


def of_task(task: Task[TaskSettings]) -> dict[str, object]:
    """What of a task decides data, budget and scores."""
    return {
        "identity": repr(task.identity()),
        "classes": repr(task.classes()),
        "budgets": repr(task.budgets),
        "classifier": repr(task.classifier),
        "extractor": task.extractor,
        "guidance": task.guidance,
        "backbone": task.backbone,
        "groups": repr(task.groups),
    }


def of_split(split: Split) -> dict[str, object]:
    """What of a split decides which images are drawn, and as what."""
    return {"ids": list(split.ids), "labels": split.labels.tolist(), "prompts": list(split.prompts)}


def of_batch(batch: Batch) -> dict[str, object]:
    """Copies of a batch's tensors, with its condition's and those of the prompts."""
    named = vars(batch) | vars(batch.condition) | batch.condition.prompts.tensors()
    return {name: value.detach().clone() for name, value in named.items() if isinstance(value, torch.Tensor)}


def changes(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Names of what is other, gone or new."""
    return [name for name in {**before, **after} if not _equal(before.get(name), after.get(name))]


def _equal(before: object, after: object) -> bool:
    if isinstance(before, torch.Tensor) and isinstance(after, torch.Tensor):
        return before.dtype == after.dtype and torch.equal(before, after)
    return before == after
