"""What ``grasp-bench score --task`` compares with: a task's real features, groups and training images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from grasp_bench.cli.score_input import Source, classes_of, open_source
from grasp_bench.contracts.progress import Progress
from grasp_bench.errors import UserError

if TYPE_CHECKING:
    from grasp_bench.run.entry.evaluate import Table
    from grasp_bench.run.options import Options


def sources_of(
    table: Table, real: Path | None, fake: Path, labels: Path | None, options: Options, progress: Progress
) -> tuple[list[Source], list[str], dict[str, np.ndarray]]:
    """Return real, generated and training features in a task's first extractor, the classes, and groups of them.

    Without ``real``, the task's test images are the real ones. Images are brought to the task's size as those of an
    entry are, all of them. Features are kept in the work folder of ``options``, where runs of the task find those of
    its own images. Raises :class:`UserError` with everything that is wrong with the images.
    """
    from grasp_bench.contracts.entry import Entry
    from grasp_bench.processes import pick_device
    from grasp_bench.run.entry.images import GivenImages
    from grasp_bench.run.files import FEATURES
    from grasp_bench.run.pipeline import Pipeline

    kept: dict[str, GivenImages] = {}

    def opened(role: str, images: Path, labels: Path | None) -> Pipeline:
        kept[role] = given = GivenImages(images, labels, enlarge=True, every=True)
        plan = table.plan(Entry("scored", {"images": given.sha256, "every": True}, make=given.make))
        return Pipeline(plan, options, pick_device(options.device), progress)

    if table.plan(Entry("scored", {})).task.multilabel:
        raise UserError(
            f"--task {table.task}: its images have several labels, and `score` takes one of each. `grasp-bench "
            "evaluate` scores label sets."
        )
    scored = opened("FAKE", fake, labels)
    test = scored.folder("features-real") if real is None else opened("REAL", real, None).folder("features")
    folders = {"REAL": test, "FAKE": scored.folder("features"), "--train": scored.folder("features-train")}
    sources = [open_source(role, folder / FEATURES, None) for role, folder in folders.items()]
    sources = [
        replace(each, path=given.path, ignored=given.images.ignored) if (given := kept.get(each.role)) else each
        for each in sources
    ]
    names, _ = classes_of(sources, None, (None, None), True)
    group = {info.name: info.group for info in scored.classes}
    members = {each: np.flatnonzero([group[name] == each for name in names]) for each in scored.plan.task.groups}
    return sources, names, members | {"all": np.arange(len(names))}


def refuse(task: str, given: Mapping[str, object]) -> None:
    """Raise :class:`UserError` for an option that says what a task says itself."""
    for option, value in given.items():
        if value is not None:
            raise UserError(f"{option}: with --task {task} the task says it. Leave it out.")
