"""Plans of entries of the open division: the table that an entry is scored in, and the name it has there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from grasp_bench import plugins
from grasp_bench.backbones.files import MissingFilesError
from grasp_bench.contracts.entry import EXTERNAL, VERSION, Entry
from grasp_bench.contracts.spec import STANDARD, Component, RunSpec
from grasp_bench.errors import UserError
from grasp_bench.run.budgets import choose_budget
from grasp_bench.run.plan import Plan, open_plan, task_component
from grasp_bench.run.recipes import task_by_recipe
from grasp_bench.run.resolve import INSTALLED, with_found_weights

NAME = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*")
LONGEST = 60


def plan_entry(
    entry: Entry,
    task: str,
    *,
    seed: int = 0,
    backbone: str | None = None,
    resolution: int | None = None,
    budget: str = STANDARD,
    task_settings: Iterable[str] = (),
    data_root: Path | None = None,
) -> Plan:
    """Return the plan of an entry on a task.

    ``backbone``, ``resolution`` and ``budget`` say in which table the entry stands: that of the closed division's runs
    with them, whose size of images, number of images and classifiers it shares. Raises :class:`UserError` like
    :func:`grasp_bench.run.plan.plan`, and for a name that cannot be a row's.
    """
    check_name(entry.name)
    name, chosen = INSTALLED.task(task, task_settings, data_root)
    try:
        known = INSTALLED.backbone(backbone or chosen.backbone, None, resolution, chosen.resolution)
    except MissingFilesError as error:
        raise MissingFilesError(
            f"{error} An entry needs no weights, but the table that it is to stand in is known by those of its "
            "backbone. Name another table with --backbone."
        ) from error
    chosen = task_by_recipe(with_found_weights(chosen), known.recipe)
    spec = RunSpec(
        task=task_component(name, chosen),
        method=Component(name=entry.name, version=VERSION, settings=dict(entry.settings)),
        backbone=Component(
            name=known.family, version=known.description.revision, settings=dict(known.description.settings)
        ),
        guidance=Component(name=EXTERNAL, version=VERSION),
        budget=choose_budget(name, chosen, budget, known.recipe),
        seed=seed,
        division="open",
    )
    return open_plan(spec, chosen, known, entry)


def check_name(name: str) -> None:
    """Raise :class:`UserError` for a name that cannot be a row's, or that a method has."""
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        raise UserError(
            f"--name {name}: expected at most {LONGEST} lower-case letters and digits, with single hyphens, dots or "
            "underscores between them, as in my-lora."
        )
    if name in plugins.entries("methods"):
        raise UserError(f"--name {name}: is a method of the closed division. Choose another name.")
