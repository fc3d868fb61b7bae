"""Scores from the features in a pack, computed with the functions of a run."""

from __future__ import annotations

import csv
import io
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from pydantic import JsonValue

from grasp_bench.contracts.record import RunRecord, Score
from grasp_bench.contracts.task import ClassInfo, Split, Task, TaskSettings
from grasp_bench.data.label_sets import commonest_first
from grasp_bench.errors import UserError
from grasp_bench.results.sharing.archive import Archive, escaped
from grasp_bench.results.sharing.differences import differences
from grasp_bench.results.sharing.manifest import SETS, TESTS, PackedRun, features_of
from grasp_bench.run.stages.classify import SOURCES

if TYPE_CHECKING:
    import numpy as np

    from grasp_bench.metrics.labelled import LabelledFeatures
    from grasp_bench.run.scoring import Evidence, Seen

ROUNDING = 1e-6
"""Largest relative difference that is attributed to another order of sums on another machine."""
MEASURED = ("value", "reference", "low", "high", "distance", "ratio")
"""Columns of tables that may differ by rounding; the others are names and counts."""
TEST_SETS = ("test", "balanced-test")
CLASSIFIERS = 1000  # more than any recipe trains
NO_TENSORS = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""Exceptions of libraries for number types that numpy does not know, and for malformed metadata."""


class PackedTask(Task[TaskSettings]):
    """The part of a task that scores depend on."""

    def __init__(self, run: PackedRun, whole_test: bool) -> None:
        super().__init__(TaskSettings())
        self._classes, self.whole_test = run.classes, whole_test
        self.multilabel = run.label_sets is not None

    def classes(self) -> list[ClassInfo]:
        return self._classes


@dataclass(frozen=True)
class Recomputed:
    """Scores and tables that the packed features give."""

    scores: list[Score]
    tables: dict[str, str]
    """Name of a file beside the record → its content."""


def read_inputs(archive: Archive, run: PackedRun) -> Evidence:
    """Return the packed features, labels and predictions of a run.

    Raises :class:`UserError` that names the file if it does not fit the classes or the other files.
    """
    from grasp_bench.run.scoring import Evidence

    seen = [_seen(archive, run, position) for position in range(len(run.extractors))]
    _check_same_images(seen)
    tests = _tests(_tensors(archive, run.inputs[TESTS]), run)
    probabilities = {
        source: _probabilities(archive, run.inputs[stage], tests, len(run.classes)) for source, stage in SOURCES.items()
    }
    return Evidence(seen, tests, probabilities)


def recompute(given: Evidence, run: PackedRun, record: RunRecord) -> Recomputed:
    """Return every score of a run, computed by :mod:`grasp_bench.run.scoring`. Raises ValueError like the metrics."""
    from grasp_bench.run.scoring import score_run

    recorded = {score.metric for score in record.scores}  # metrics that are installed here alone are not its fault
    whole = any(score.scope == "whole test set" for score in record.scores)
    task = PackedTask(run, whole)
    return Recomputed(*score_run(task, record.spec.task.name, given, recorded))


def score_differences(recorded: list[Score], found: list[Score]) -> tuple[list[str], float]:
    """Describe how recorded scores differ from the recomputed ones; also return the largest rounding difference."""
    before, after = ({each.place: each for each in scores} for scores in (recorded, found))
    faults, largest = [], 0.0
    if len(before) < len(recorded):
        faults.append("a score is recorded twice")
    for place in {**before, **after}:
        metric, source, test_set, extractor, group, scope = place
        where = ", ".join(filter(None, (source, test_set, extractor, scope)))
        title = escaped(f"{metric} of {group} ({where})")
        if place not in before or place not in after:
            faults.append(f"{title} is not in the {'features' if place in before else 'record'}")
            continue
        for field, old, new in differences(before[place].model_dump(mode="json"), after[place].model_dump(mode="json")):
            apart = relative_difference(old, new)
            if apart > ROUNDING:
                faults.append(f"{title}: {field} is {escaped(str(old))}, the features give {new}")
            else:
                largest = max(largest, apart)
    return faults, largest


def table_difference(recorded: str, found: str) -> str | None:
    """Describe the first line of a CSV that differs by more than rounding; None if there is none."""
    rows = [list(csv.reader(io.StringIO(text))) for text in (recorded, found)]
    if len(rows[0]) != len(rows[1]):
        return f"has {len(rows[0])} lines, the features give {len(rows[1])}"
    columns = rows[1][0]
    for number, (before, after) in enumerate(zip(*rows, strict=True), 1):
        cells = zip(columns, before, after, strict=False)
        if len(before) != len(after) or not all(_agree(*each) for each in cells):
            return f"line {number} is {escaped(','.join(before))!r}, the features give {escaped(','.join(after))!r}"
    return None


def _agree(column: str, a: str, b: str) -> bool:
    return a == b or (column in MEASURED and relative_difference(_number(a), _number(b)) <= ROUNDING)


def relative_difference(a: JsonValue, b: JsonValue) -> float:
    """Return |a - b| over the larger magnitude; 0 for equal values, infinite unless both are finite numbers."""
    if a == b and isinstance(a, bool) == isinstance(b, bool):
        return 0.0
    numbers = [value for value in (a, b) if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < 2 or not all(map(math.isfinite, numbers)):
        return math.inf
    return abs(numbers[0] - numbers[1]) / max(abs(numbers[0]), abs(numbers[1]))


def _number(cell: str) -> str | float:
    try:
        return float(cell)
    except ValueError:
        return cell


def _seen(archive: Archive, run: PackedRun, position: int) -> Seen:
    """Return what the extractor at a position sees. Raises :class:`UserError` where its files do not fit together."""
    from grasp_bench.run.scoring import Seen

    stages = features_of(position)
    with tempfile.TemporaryDirectory(prefix="grasp-bench-") as folder:
        read = {role: _features(archive, run, stage, Path(folder)) for role, stage in stages.items()}
    widths = {role: found.features.shape[1] for role, (found, _) in read.items()}
    if len(set(widths.values())) > 1:
        raise UserError(f"features are of different lengths: {widths}")
    if any(identity != read["real"][1] for _, identity in read.values()):
        raise UserError(f"the features are of different extractors or weights: {', '.join(stages.values())}.")
    found = {role: each for role, (each, _) in read.items()}
    if run.label_sets is not None:
        found = _with_sets(found, _tensors(archive, run.inputs[SETS]), run)
    return Seen(run.extractors[position], read["real"][1], found["real"], found["fake"], found["train"])


def _with_sets(
    found: dict[str, LabelledFeatures], sets: dict[str, np.ndarray], run: PackedRun
) -> dict[str, LabelledFeatures]:
    """Return the features with all labels of their images, which have those of their classes at least."""
    import numpy as np

    name, order = run.inputs[SETS], commonest_first(run.classes)
    for role, each in found.items():
        own = sets.get(role)
        if own is None or own.dtype != np.bool_ or own.shape != (len(each.labels), len(run.classes)):
            raise UserError(f"{name}: {role} does not say which labels each of its {len(each.labels)} images has.")
        if not own[np.arange(len(own)), each.labels].all():
            raise UserError(f"{name}: {role} has images without the label that their features name.")
    return {
        role: replace(
            each, sets=sets[role], commonest_first=order, in_focus=role == "fake" and run.label_sets == "focus"
        )
        for role, each in found.items()
    }


def _check_same_images(seen: Sequence[Seen]) -> None:
    """Raise :class:`UserError` unless all extractors saw the same images."""
    for each in seen[1:]:
        for role in ("real", "fake", "train"):
            ours, theirs = getattr(seen[0], role), getattr(each, role)
            if ours.ids != theirs.ids or ours.labels.tolist() != theirs.labels.tolist():
                names = f"{escaped(each.extractor)} and {escaped(seen[0].extractor)}"
                raise UserError(f"the features of {names} are of different images ({role}).")


def _features(
    archive: Archive, run: PackedRun, stage: str, folder: Path
) -> tuple[LabelledFeatures, dict[str, str] | None]:
    import numpy as np

    from grasp_bench.data.features import read_features
    from grasp_bench.metrics.labelled import LabelledFeatures

    name, path = run.inputs[stage], folder / f"{stage}.safetensors"
    archive.copy(name, path)
    try:
        found = read_features(path)
    except UserError as error:
        raise UserError(escaped(str(error).replace(str(path), name))) from error
    except NO_TENSORS as error:
        raise UserError(f"{name}: cannot be read as features ({escaped(str(error))}).") from error
    position = {info.name: index for index, info in enumerate(run.classes)}
    if not _is_names(found.labels) or not _is_names(found.ids):
        raise UserError(f"{name}: has no labels, or no ids.")
    if unknown := next((label for label in found.labels if label not in position), None):
        raise UserError(f"{name}: is of class {escaped(str(unknown))!r}, which the task does not have.")
    labels = np.array([position[label] for label in found.labels], np.int64)
    return LabelledFeatures(found.features, labels, found.ids), _identity(name, found.extractor)


def _is_names(found: object) -> TypeGuard[list[str]]:
    """Return whether metadata, which may be any JSON, are a list of strings."""
    return isinstance(found, list) and all(isinstance(each, str) for each in found)


def _identity(name: str, identity: object) -> dict[str, str] | None:
    if identity is None:
        return None
    if not isinstance(identity, dict) or not {"extractor", "weights"} <= identity.keys():
        raise UserError(f"{name}: does not name the extractor and weights of its features.")
    return identity


def _tensors(archive: Archive, name: str) -> dict[str, np.ndarray]:
    """Return the arrays of a safetensors file; reading it cannot run code."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    with tempfile.TemporaryDirectory(prefix="grasp-bench-") as folder:
        path = Path(folder) / "tensors.safetensors"
        archive.copy(name, path)
        try:
            return load_file(path)
        except (SafetensorError, *NO_TENSORS) as error:
            raise UserError(f"{name}: cannot be read as safetensors ({escaped(str(error))}).") from error


def _tests(tensors: dict[str, np.ndarray], run: PackedRun) -> dict[str, Split]:
    """Return the test sets, without their images."""
    name, tests = run.inputs[TESTS], {}
    for test in TEST_SETS:
        if test not in tensors:
            continue
        truth, patients = tensors[test], tensors.get(f"{test}/patients")
        _check_truth(truth, f"{name}: {test}", run)
        if patients is not None and patients.shape != truth.shape[:1]:
            raise UserError(f"{name}: patients of {test} do not fit it.")
        ids = [f"{test}/{row}" for row in range(len(truth))]
        labels, sets = (truth, None) if truth.ndim == 1 else (truth.argmax(axis=1), truth)
        tests[test] = Split(ids, labels, [""] * len(ids), _no_images, patients, sets=sets)
    if "test" not in tests:
        raise UserError(f"{name}: holds no test set.")
    return tests


def _check_truth(truth: np.ndarray, what: str, run: PackedRun) -> None:
    """Raise :class:`UserError` unless they are labels of images: one each, or any number where these may have several.

    One label each are class indices (n,); several are bool (n, classes).
    """
    import numpy as np

    classes, several = len(run.classes), run.label_sets is not None
    if truth.dtype != (np.bool_ if several else np.int64) or truth.ndim != 1 + several or not len(truth):
        raise UserError(
            f"{what} does not say which {'labels each image has' if several else 'class each image is of'}."
        )
    if truth.shape[1] != classes if several else not (truth.min() >= 0 and truth.max() < classes):
        raise UserError(f"{what} does not fit the {classes} classes.")


def _no_images(indices: np.ndarray) -> np.ndarray:
    raise NotImplementedError("a pack holds no images")


def _probabilities(archive: Archive, name: str, tests: dict[str, Split], classes: int) -> dict[str, np.ndarray]:
    import numpy as np

    tensors = _tensors(archive, name)
    for test, split in tests.items():
        found = tensors.get(test)
        if found is None or found.dtype.kind != "f" or found.ndim != 3 or not 0 < len(found) <= CLASSIFIERS:
            raise UserError(f"{name}: holds no predictions (classifiers, n, classes) of {test}.")
        if found.shape[1:] != (len(split), classes) or not np.isfinite(found).all():
            raise UserError(f"{name}: predictions of {test} are {found.shape}, or not all finite.")
    return {test: tensors[test] for test in tests}
