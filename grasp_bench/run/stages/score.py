"""The score stage: the run's metrics, its tables of classes, and pictures of its images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from grasp_bench.io import read_tensors, write_bytes, write_json
from grasp_bench.run.context import Context, Inputs, Stage, numbered
from grasp_bench.run.files import FEATURES, GENERATED_SHEET, METRICS, PICTURE, PROBABILITIES, REAL_SHEET
from grasp_bench.run.plan import Plan
from grasp_bench.run.stages import classify, features

SCORED = tuple(stage.name for stage in (*features.STAGES, *classify.STAGES))


def _inputs(plan: Plan, upstream: Mapping[str, str]) -> Inputs:
    from grasp_bench.metrics.registry import beyond_the_first, installed_versions

    keys: Inputs = {name.replace("-", "_"): upstream[name] for name in SCORED if name in upstream}
    scored_by = installed_versions() if plan.metrics is None else plan.metrics
    metrics: JsonValue = dict(beyond_the_first(scored_by, plan.task.multilabel))
    whole: Inputs = {"whole_test": True} if plan.task.whole_test else {}
    return keys | whole | ({"metrics": metrics} if metrics else {})


def _build(context: Context, folder: Path, upstream: Mapping[str, Path]) -> None:
    from grasp_bench.data.features import read_features
    from grasp_bench.data.label_sets import commonest_first
    from grasp_bench.metrics.labelled import LabelledFeatures
    from grasp_bench.run.scoring import Evidence, Seen, score_run

    plan, data = context.plan, context.data
    order = commonest_first(context.classes)
    in_focus = dict.fromkeys(features.IMAGES, False) | {"features": plan.task.label_sets == "focus"}
    splits = {"features-real": data.test, "features": context.images, "features-train": data.train}

    def seen(position: int) -> Seen:
        read = {name: read_features(upstream[numbered(name, position)] / FEATURES) for name in splits}
        real, fake, train = (
            LabelledFeatures(read[name].features, split.labels, split.ids, None, split.sets, order, in_focus[name])
            for name, split in splits.items()
        )
        return Seen(plan.extractors[position].name, read["features"].extractor, real, fake, train)

    probabilities = {
        source: {test: found.numpy() for test, found in read_tensors(upstream[stage] / PROBABILITIES).items()}
        for source, stage in classify.SOURCES.items()
    }
    given = Evidence([seen(at) for at in range(len(plan.extractors))], classify.tested_on(data), probabilities)
    scores, tables = score_run(plan.task, plan.spec.task.name, given, plan.metrics)
    for name, table in tables.items():
        write_bytes(folder / name, table.encode())
    write_pictures(context, folder)
    write_json(folder / METRICS, [score.model_dump(mode="json") for score in scores])


def write_pictures(context: Context, folder: Path) -> None:
    """Write a picture of the generated images, and for a page sheets of them and of real ones where these may be."""
    _write_picture(context, folder)
    if not context.plan.private:
        _write_sheets(context, folder)


def _write_picture(context: Context, folder: Path) -> None:
    """Write the first generated images of every class, or of a choice of many classes, as one picture."""
    import numpy as np

    from grasp_bench.run import pictures

    plan, images, classes = context.plan, context.images, context.classes
    rows = []
    for index in pictures.shown_classes([info.train_count for info in classes]):
        info = classes[index]
        chosen = np.flatnonzero(images.labels == index)[: pictures.PER_CLASS]
        rows.append((f"{info.name}  {info.group} ({info.train_count})", images.read(chosen)))
    title = f"{plan.title}: class, group (training images){pictures.choice(len(classes))}"
    pictures.write_grid(folder / PICTURE, rows, title)


def _write_sheets(context: Context, folder: Path) -> None:
    """Write images of the same classes, generated and held-out real ones, which a page shows beside other methods'."""
    import numpy as np

    from grasp_bench.run import pictures

    classes = context.classes
    chosen = {index: classes[index].name for index in pictures.shown_classes([each.train_count for each in classes])}
    for name, split in ((GENERATED_SHEET, context.images), (REAL_SHEET, context.data.test)):
        found = {index: np.flatnonzero(split.labels == index)[: pictures.PER_CLASS] for index in chosen}
        rows = {chosen[index]: split.read(indices) for index, indices in found.items() if len(indices)}
        pictures.write_sheet(folder / name, rows)


STAGE = Stage("score", 3, ("prepare", "extractor", "generate", *SCORED), _inputs, _build, alone=True)
