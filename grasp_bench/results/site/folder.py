"""What lies beside a record: scores of classes, the training log, the partition."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from grasp_bench.adapters.partition import Partition
from grasp_bench.contracts.record_v1 import class_table

CLASSES = "classes.csv"
LOG = "train.jsonl"
PARTITION = "partition.json"

CLASSIFIER_METRICS = ("accuracy", "f1", "auroc", "average_precision")
UNREADABLE = (
    *(OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    *(RecursionError, csv.Error),
)
"""What parsing raises on files that were damaged, or made to be."""
MOST_IMAGES = 2**53
"""Of a class: more are no exact number in a chart."""

T = TypeVar("T")


@dataclass(frozen=True)
class ClassScore:
    """One metric of one class."""

    group: str
    train_images: int
    value: float | None
    """None where there are too few images."""
    floor: float | None


@dataclass(frozen=True)
class LogRow:
    """A row of the training log."""

    step: float
    group_loss: dict[str, float | None]
    """Mean since the row before; None for a group that was not seen."""


@dataclass(frozen=True)
class Composition:
    """Training images of every class in every cluster of a partition."""

    classes: tuple[str, ...]
    clusters: tuple[str, ...]
    counts: np.ndarray
    """int64 (classes, clusters)."""


class RunFolder:
    """The files of a run; one that is absent is empty, one that cannot be read is named in ``unreadable``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unreadable: list[Path] = []
        self.classes: dict[str, dict[str, ClassScore]] = self._read(CLASSES, _class_scores) or {}
        """Metric → class → score."""
        self.log: list[LogRow] = self._read(LOG, _log_rows) or []
        self.partition: Composition | None = self._read(PARTITION, self._composition)

    def _read(self, name: str, parse: Callable[[str], T]) -> T | None:
        path = self.folder / name
        if not path.is_file():
            return None
        try:
            return parse(path.read_text(encoding="utf-8"))
        except UNREADABLE:
            self.unreadable.append(path)
            return None

    def _composition(self, content: str) -> Composition:
        partition = Partition.from_json(json.loads(content))
        if partition.images:
            counts = {name: partition.images[name] for name in partition.classes}
        else:
            images = {name: score.train_images for each in self.classes.values() for name, score in each.items()}
            counts = {
                name: [images[name] * (number == cluster) for number in range(len(partition.clusters))]
                for name, cluster in partition.classes.items()
            }
        if not counts or any(number < 0 for each in counts.values() for number in each):
            raise ValueError("it has no classes, or fewer than no images")
        return Composition(tuple(counts), partition.clusters, np.array(list(counts.values()), np.int64))


def _class_scores(content: str) -> dict[str, dict[str, ClassScore]]:
    found: dict[str, dict[str, ClassScore]] = {}
    for row in csv.DictReader(io.StringIO(class_table(content), newline="")):
        score = ClassScore(row["group"], _count(row["train_images"]), _number(row["value"]), _number(row["reference"]))
        name = row["metric"] if row["metric"] not in CLASSIFIER_METRICS else f"{row['metric']}_{row['source']}"
        found.setdefault(name + "_balanced" * (row["test_set"] != "test"), {})[row["class"]] = score
    return found


def _count(written: str) -> int:
    if not 0 <= (count := int(written)) <= MOST_IMAGES:
        raise ValueError(f"{written} is no number of images")
    return count


def _number(written: str) -> float | None:
    return _finite(written) if written else None


def _finite(value: str | float) -> float:
    if not math.isfinite(number := float(value)):
        raise ValueError(f"{value} is no score")
    return number


def _log_rows(content: str) -> list[LogRow]:
    rows = [json.loads(line) for line in content.splitlines()]
    return [
        LogRow(
            _finite(row["step"]),
            {str(group): None if loss is None else _finite(loss) for group, loss in row["group_loss"].items()},
        )
        for row in rows
    ]
