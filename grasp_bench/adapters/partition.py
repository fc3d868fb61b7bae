"""Static partitions of the samples into clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pydantic import JsonValue

from grasp_bench.contracts.task import ClassInfo, Task, TaskSettings
from grasp_bench.errors import UserError

if TYPE_CHECKING:
    import numpy as np

HEALTHY = "healthy"


@dataclass(frozen=True)
class Partition:
    """Which cluster serves each class, or each of its images."""

    clusters: tuple[str, ...]
    """Cluster names."""
    classes: dict[str, int]
    """Class name → index into ``clusters``, in the order of class indices; where a class's images are in several
    clusters, the one that most are in, which serves the images that are generated."""
    images: dict[str, list[int]] | None = None
    """Class name → training images in each cluster, where those of one class are in several."""

    @classmethod
    def grouping(cls, infos: Sequence[ClassInfo], members: Sequence[int], prefix: str) -> Self:
        """Classes by the number of their cluster; clusters are named in the order of their first classes."""
        order = list(dict.fromkeys(int(number) for number in members))
        names = tuple(f"{prefix} {position}" for position in range(1, len(order) + 1))
        return cls(names, {info.name: order.index(number) for info, number in zip(infos, members, strict=True)})

    @classmethod
    def from_json(cls, found: Any) -> Self:
        """The inverse of :meth:`to_json`."""
        return cls(tuple(found["clusters"]), dict(found["classes"]), found.get("images"))

    def to_json(self) -> JsonValue:
        """The partition as plain JSON."""
        found: dict[str, JsonValue] = {"clusters": list(self.clusters), "classes": dict(self.classes)}
        if self.images:
            found["images"] = {name: list(counts) for name, counts in self.images.items()}
        return found

    def composition(self, infos: Sequence[ClassInfo]) -> np.ndarray:
        """Training images of every class in every cluster: int64 (classes, clusters)."""
        import numpy as np

        counts = np.zeros((len(infos), len(self.clusters)), np.int64)
        for row, info in enumerate(infos):
            if self.images:
                counts[row] = self.images[info.name]
            else:
                counts[row, self.classes[info.name]] = info.train_count
        return counts


def by_group(task: Task[TaskSettings]) -> Partition:
    """One cluster per reporting group: head, medium, tail; and one of all healthy classes, where a task names some."""
    infos = task.classes()
    served = [HEALTHY if info.healthy else info.group for info in infos]
    names = tuple(name for name in (*task.groups, HEALTHY) if name in served)
    return Partition(names, {info.name: names.index(name) for info, name in zip(infos, served, strict=True)})


def by_class(task: Task[TaskSettings], count: int | None) -> Partition:
    """One cluster per class, or ``count`` of nearly equal size, whose classes are neighbours by train count.

    Raises :class:`UserError` for more clusters than classes.
    """
    import numpy as np

    infos = task.classes()
    if count is None:
        return Partition(tuple(info.name for info in infos), {info.name: row for row, info in enumerate(infos)})
    order = np.argsort([-info.train_count for info in infos], kind="stable")
    runs = np.array_split(order, cluster_count(task, count))
    ends = np.cumsum([len(run) for run in runs])
    names = tuple(f"rank {end - len(run) + 1}-{end}" for run, end in zip(runs, ends, strict=True))
    home = {int(row): number for number, run in enumerate(runs) for row in run}
    return Partition(names, {info.name: home[row] for row, info in enumerate(infos)})


def single(task: Task[TaskSettings]) -> Partition:
    """One cluster for every class."""
    return Partition(("all",), {info.name: 0 for info in task.classes()})


def cluster_count(task: Task[TaskSettings], asked: int | None) -> int:
    """``asked``, or as many clusters as the partition by group has. Raises :class:`UserError` for more than classes."""
    classes = len(task.classes())
    count = len(by_group(task).clusters) if asked is None else asked
    if count > classes:
        raise UserError(f"clusters={count}: the task has {classes} classes. Choose at most as many clusters.")
    return count
