"""A task and its data, prepared for checks in the temporary folder."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from grasp_bench.contracts.task import Dataset, Split, Task, TaskSettings
from grasp_bench.errors import UserError
from grasp_bench.run.resolve import choose_backbone, make_task
from grasp_bench.testing.checks import NotApplicable
from grasp_bench.testing.rig import SILENT, scratch

SMALL = "tiny-sd3-32"
"""Backbone in place of a default one whose weights are not here."""


class Subject:
    """A task with its settings."""

    def __init__(self, name: str, settings: tuple[str, ...]) -> None:
        self.name, self.settings = name, settings

    @functools.cached_property
    def task(self) -> Task[TaskSettings]:
        """The task. Raises :class:`NotApplicable` where its data is not there."""
        try:
            return make_task(self.name, self.settings, None)[1]
        except UserError as error:
            raise NotApplicable(str(error)) from error

    @functools.cached_property
    def backbone(self) -> str:
        """The task's default backbone, if its weights are here."""
        try:
            choose_backbone(self.task.backbone)
        except UserError:
            return SMALL
        return self.task.backbone

    @functools.cached_property
    def data(self) -> Dataset:
        """The data, prepared once."""
        return self.prepare()

    def prepare(self) -> Dataset:
        """The data, prepared in a folder of its own."""
        folder = Path(tempfile.mkdtemp(dir=scratch()))
        self.task.prepare(folder, SILENT)
        return self.task.open(folder, choose_backbone(self.backbone).image_shape)


def splits(data: Dataset) -> dict[str, Split]:
    """The disjoint splits of a task's data, by name."""
    named = {"train": data.train, "validation": data.validation, "test": data.test, "pool": data.pool}
    return {name: split for name, split in named.items() if split is not None}
