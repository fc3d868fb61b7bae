"""Evaluating an entry of the open division: from what a user names to its record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from grasp_bench.contracts.entry import Entry, Facts
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.record import RunRecord
from grasp_bench.contracts.spec import STANDARD
from grasp_bench.errors import UserError
from grasp_bench.run.entry.plan import plan_entry
from grasp_bench.run.options import Options
from grasp_bench.run.plan import Plan
from grasp_bench.run.resolve import INSTALLED
from grasp_bench.run.runner import check_free, run


@dataclass(frozen=True)
class Table:
    """The table that an entry is to stand in."""

    task: str
    """Name of a task, or the path of the TOML file that describes one."""
    seed: int = 0
    backbone: str | None = None
    resolution: int | None = None
    budget: str = STANDARD
    task_settings: tuple[str, ...] = ()
    data_root: Path | None = None

    @property
    def multilabel(self) -> bool:
        """Whether images of the task have several labels. Raises :class:`UserError` for a task that is unknown."""
        return INSTALLED.task(self.task, self.task_settings, self.data_root)[1].multilabel

    def plan(self, entry: Entry) -> Plan:
        """Return the plan of an entry in this table. Raises :class:`UserError` like :func:`plan_entry`."""
        return plan_entry(
            entry,
            self.task,
            seed=self.seed,
            backbone=self.backbone,
            resolution=self.resolution,
            budget=self.budget,
            task_settings=self.task_settings,
            data_root=self.data_root,
        )


def entry_of_images(
    name: str, images: Path | None, labels: Path | None, enlarge: bool, facts: Facts, table: Table, progress: Progress
) -> Entry:
    """Return the entry of a folder of images for a table, and say what of it is ignored.

    Raises :class:`UserError` for what cannot be read.
    """
    from grasp_bench.data.noted import tell
    from grasp_bench.run.entry.images import GivenImages

    if images is None:
        raise UserError("nothing to evaluate: give --images DIR, or --pipeline FOLDER.")
    given = GivenImages(images, labels, enlarge, multilabel=table.multilabel)
    tell(images, given.noted, progress)
    return Entry(name, {"images": given.sha256}, facts, given.make)


def entry_of_pipeline(
    name: str,
    source: str,
    lora: Path | None,
    guidance_scale: float | None,
    steps: int | None,
    precision: str,
    facts: Facts,
    download: Callable[[str], None] | None,
) -> Entry:
    """Return the entry of a pipeline of diffusers: a folder, or a repository in the hub's cache.

    With ``download``, which is told what is fetched, what is not here is fetched. Raises :class:`UserError` for what is
    not there, or cannot be read without running code.
    """
    from grasp_bench.backbones.download import whole_pipeline
    from grasp_bench.run.entry.pipeline import GivenPipeline, Precision

    if precision not in get_args(Precision):
        raise UserError(f"--precision {precision}: expected one of {', '.join(get_args(Precision))}.")
    folder = whole_pipeline(source, download)
    given = GivenPipeline(folder, lora, guidance_scale, steps, precision)  # type: ignore[arg-type] # checked above
    return Entry(name, given.settings, facts, given.make, threads=None)


def evaluate_entry(entry: Entry, table: Table, options: Options, progress: Progress) -> tuple[Path, RunRecord]:
    """Score an entry's images and return the path of its record and the record.

    Raises :class:`UserError` with everything that is wrong with the images, and where the name is taken.
    """
    plan = table.plan(entry)
    check_free(plan, options.results)
    progress.say(plan.title)
    return run(plan, options, progress)
