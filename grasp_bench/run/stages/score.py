"""The score stage: the run's metrics, its tables by class, and pictures of its images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from grasp_bench.extractors.inception import is_fid
from grasp_bench.io import write_bytes, write_json
from grasp_bench.metrics.scoring import LabelledFeatures
from grasp_bench.run import sheet
from grasp_bench.run.files import CLASSES, COPIES, METRICS, PICTURE
from grasp_bench.run.pictures import write_grid
from grasp_bench.run.scoring import (
    class_table,
    copies_table,
    downstream_metrics,
    fidelity_and_diversity,
    fidelity_metrics,
)
from grasp_bench.run.stages import classify
from grasp_bench.run.stages.features import identity

if TYPE_CHECKING:
    from grasp_bench.run.pipeline import Pipeline

SHOWN = 10  # images a class in the picture


def build(
    pipeline: Pipeline,
    folder: Path,
    real: LabelledFeatures,
    train: LabelledFeatures,
    fake: LabelledFeatures,
    probabilities: dict[str, dict[str, np.ndarray]],
) -> None:
    """Score features of test, training and generated images and what classifiers say, and leave all of it."""
    plan, tests, known = pipeline.plan, classify.tested_on(pipeline.data), identity(pipeline.loaded_extractor)
    scores = fidelity_and_diversity(plan.task, real, fake, train)
    metrics = fidelity_metrics(scores, plan.task.extractor, known is not None and is_fid(known))
    metrics += downstream_metrics(plan.task, plan.spec.task.name, tests, probabilities)
    write_bytes(folder / CLASSES, class_table(pipeline.classes, scores, tests, probabilities).encode())
    write_bytes(folder / COPIES, copies_table(pipeline.classes, fake, train).encode())
    _write_picture(pipeline, folder)
    if not plan.private:
        _write_sheets(pipeline, folder)
    write_json(folder / METRICS, [metric.model_dump(mode="json") for metric in metrics])


def _write_picture(pipeline: Pipeline, folder: Path) -> None:
    """The first generated images of every class."""
    plan, images = pipeline.plan, pipeline.images
    rows = [
        (f"{info.name}  {info.group} ({info.train_count})", images.read(np.flatnonzero(images.labels == index)[:SHOWN]))
        for index, info in enumerate(pipeline.classes)
    ]
    title = f"{plan.label} on {plan.task_label}, seed {plan.spec.seed}"
    write_grid(folder / PICTURE, rows, f"{title}: class, group (training images)")


def _write_sheets(pipeline: Pipeline, folder: Path) -> None:
    """Images of some classes, generated and held-out real ones, for a page to show beside other methods'."""
    chosen = {index: pipeline.classes[index].name for index in sheet.shown_classes(len(pipeline.classes))}
    for name, split in ((sheet.GENERATED, pipeline.images), (sheet.REAL, pipeline.data.test)):
        found = {index: np.flatnonzero(split.labels == index)[: sheet.PER_CLASS] for index in chosen}
        rows = {chosen[index]: split.read(indices) for index, indices in found.items() if len(indices)}
        sheet.write_sheet(folder / name, rows)
