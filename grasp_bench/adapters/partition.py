"""Static partitions of the samples into clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pydantic import JsonValue

from grasp_bench.contracts.task import ClassInfo, Task, TaskSettings
from grasp_bench.errors import UserError
from grasp_bench.io import png
from grasp_bench.text import drawn_literally, printable

if TYPE_CHECKING:
    import numpy as np

HEALTHY = "healthy"
LETTER = 0.075  # inches, width of a letter of a label
NAMED = 2500  # cells of a partition in which numbers can be read


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


@drawn_literally()
def draw_partition(classes: Sequence[str], clusters: Sequence[str], counts: np.ndarray, title: str) -> bytes:
    """Return a PNG of the training images of every class (rows) in every cluster (columns).

    ``counts`` is (classes, clusters). A cell is shaded by its share of its class; large partitions are drawn without
    names.
    """
    from matplotlib.figure import Figure

    classes, clusters = ([*map(printable, each)] for each in (classes, clusters))
    named = counts.size <= NAMED
    cell = (0.62, 0.28) if named else (0.03, 0.03)  # inches
    margins = (0.3 + max(map(len, classes)) * LETTER, 0.6 + max(map(len, clusters)) * LETTER) if named else (0.6, 0.6)
    size = (max(4.0, margins[0] + cell[0] * len(clusters)), margins[1] + cell[1] * len(classes))
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    axis = figure.subplots()
    axis.imshow(counts / counts.sum(1, keepdims=True).clip(1), cmap="Blues", vmin=0, vmax=2, aspect="auto")
    if named:
        axis.set_xticks(range(len(clusters)), clusters, rotation=90, fontsize=8)
        axis.set_yticks(range(len(classes)), classes, fontsize=8)
        for row, column in zip(*counts.nonzero(), strict=True):
            axis.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=8)
    else:
        axis.set(xticks=[], yticks=[], xlabel=f"{len(clusters)} clusters", ylabel=f"{len(classes)} classes")
    figure.suptitle(printable(title), fontsize=9)
    return png(figure)
