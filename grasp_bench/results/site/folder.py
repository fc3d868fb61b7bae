"""The files beside a record: scores of classes, the training log, the partition."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from grasp_bench.adapters.partition import Partition
from grasp_bench.contracts.record_v1 import class_table
from grasp_bench.run.files import CLASSES, PARTITION, TRAIN_LOG
from grasp_bench.text import from_cell

if TYPE_CHECKING:
    import pandas as pd

CLASS_COLUMNS = ["metric", "source", "test_set", "extractor", "class", "train_images", "value", "reference"]
LOG_COLUMNS = ["step", "group", "loss"]
UNREADABLE = (
    *(OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    *(RecursionError, csv.Error),
)
"""Exceptions of parsing damaged or hostile files."""
MOST_IMAGES = 2**53
"""Largest number of images of a class: larger integers are not exact in a chart."""

T = TypeVar("T")


@dataclass(frozen=True)
class Composition:
    """Training images of every class in every cluster of a partition."""

    classes: tuple[str, ...]
    clusters: tuple[str, ...]
    counts: np.ndarray
    """Numbers of training images, int64 (classes, clusters)."""


class RunFolder:
    """The files of a run; an absent one is empty, an unreadable one is listed in ``unreadable``."""

    def __init__(self, folder: Path) -> None:
        import pandas as pd

        self.folder = folder
        self.unreadable: list[Path] = []
        self.classes = self._read(CLASSES, _class_scores, pd.DataFrame(columns=CLASS_COLUMNS))
        """One row per metric and class; value and reference are NaN where there are too few images."""
        self.log = self._read(TRAIN_LOG, _losses, pd.DataFrame(columns=LOG_COLUMNS))
        """Mean loss of each group since its previous row; groups that were not seen have no row."""
        self.partition: Composition | None = self._read(PARTITION, self._composition, None)

    def _read(self, name: str, parse: Callable[[str], T], absent: T) -> T:
        path = self.folder / name
        if not path.is_file():
            return absent
        try:
            return parse(path.read_text(encoding="utf-8"))
        except UNREADABLE:
            self.unreadable.append(path)
            return absent

    def _composition(self, content: str) -> Composition:
        partition = Partition.from_json(json.loads(content))
        if partition.images:
            counts = {name: partition.images[name] for name in partition.classes}
        else:
            images = dict(zip(self.classes["class"], self.classes["train_images"], strict=True))
            counts = {
                name: [images[name] * (number == cluster) for number in range(len(partition.clusters))]
                for name, cluster in partition.classes.items()
            }
        if not counts or any(number < 0 for each in counts.values() for number in each):
            raise ValueError("it has no classes, or a negative number of images")
        return Composition(tuple(counts), partition.clusters, np.array(list(counts.values()), np.int64))


def _class_scores(content: str) -> pd.DataFrame:
    import pandas as pd

    text = pd.read_csv(io.StringIO(class_table(content)), dtype=str, keep_default_na=False)
    found = text[CLASS_COLUMNS].map(from_cell).astype({"train_images": np.int64})
    for name in ("value", "reference"):
        found[name] = found[name].map(lambda written: _finite(written) if written else math.nan).astype(float)
    if not found["train_images"].between(0, MOST_IMAGES).all():
        raise ValueError("the train count of a class is not a number of images")
    return found


def _losses(content: str) -> pd.DataFrame:
    import pandas as pd

    rows = [json.loads(line) for line in content.splitlines()]
    losses = [
        (_finite(row["step"]), _encodable(group), _finite(loss))
        for row in rows
        for group, loss in row["group_loss"].items()
        if loss is not None
    ]
    return pd.DataFrame(losses, columns=LOG_COLUMNS)


def _encodable(text: str) -> str:
    """Return text in which a lone surrogate, which JSON can hold and a table cannot, is escaped."""
    return text.encode(errors="backslashreplace").decode()


def _finite(value: str | float) -> float:
    if not math.isfinite(number := float(value)):
        raise ValueError(f"{value} is not a score")
    return number
