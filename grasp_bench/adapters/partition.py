"""Static partitions of the samples into clusters."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import JsonValue

from grasp_bench.task import Task, TaskSettings


@dataclass(frozen=True)
class Partition:
    """Which cluster serves each class."""

    clusters: tuple[str, ...]
    """Cluster names."""
    classes: dict[str, int]
    """Class name → index into ``clusters``, in the order of class indices."""

    def to_json(self) -> JsonValue:
        """The partition as plain JSON."""
        return {"clusters": list(self.clusters), "classes": dict(self.classes)}


def by_group(task: Task[TaskSettings]) -> Partition:
    """One cluster a reporting group: head, medium, tail."""
    return Partition(task.groups, {info.name: task.groups.index(info.group) for info in task.classes()})


def single(task: Task[TaskSettings]) -> Partition:
    """One cluster for every class."""
    return Partition(("all",), {info.name: 0 for info in task.classes()})
