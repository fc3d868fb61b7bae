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

CLASSES = "classes.csv"
LOG = "train.jsonl"
PARTITION = "partition.json"

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
        except (OSError, ValueError, KeyError, TypeError, IndexError):
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
        return Composition(tuple(counts), partition.clusters, np.array(list(counts.values()), np.int64))


def _class_scores(content: str) -> dict[str, dict[str, ClassScore]]:
    found: dict[str, dict[str, ClassScore]] = {}
    for row in csv.DictReader(io.StringIO(content, newline="")):
        score = ClassScore(row["group"], int(row["train_images"]), _number(row["value"]), _number(row["floor"]))
        found.setdefault(row["metric"], {})[row["class"]] = score
    return found


def _number(written: str) -> float | None:
    if not written:
        return None
    if not math.isfinite(number := float(written)):
        raise ValueError(f"{written} is no score")
    return number


def _log_rows(content: str) -> list[LogRow]:
    rows = [json.loads(line, parse_constant=_refused) for line in content.splitlines()]
    return [LogRow(float(row["step"]), {str(group): loss for group, loss in row["group_loss"].items()}) for row in rows]


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is no loss")
