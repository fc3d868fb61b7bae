"""From a sweep's file to its cells: one run per cell, and all are checked before any is started."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from grasp_bench.contracts.record import RECORD_NAME
from grasp_bench.contracts.spec import run_command
from grasp_bench.errors import UserError
from grasp_bench.run.pipeline import stage_keys
from grasp_bench.run.plan import Plan, plan
from grasp_bench.run.sharing import check_sharing
from grasp_bench.sweep.config import Exclude, Grid, SweepConfig, read_config
from grasp_bench.tuning.chosen import tuned_guidance, with_tuned
from grasp_bench.tuning.ranges import tuned_ranges

MOST_CELLS = 100_000
"""Cells that a sweep may have; more are a mistake, and would not fit into memory."""


@dataclass(frozen=True)
class Choice:
    """A point of the sweep's grid; settings are ``NAME=VALUE``."""

    task: str
    task_set: tuple[str, ...]
    seed: str
    backbone: str | None
    method: str
    set: tuple[str, ...]
    guidance: str | None
    guidance_set: tuple[str, ...]

    def __str__(self) -> str:
        named = [self.method, *self.set, "on", self.task, *self.task_set]
        named += ["with", self.guidance, *self.guidance_set] if self.guidance else []
        named += ["from", self.backbone] if self.backbone else []
        return f"{' '.join(named)}, seed {self.seed}"


@dataclass(frozen=True)
class Cell:
    """One run of a sweep."""

    plan: Plan
    arguments: tuple[str, ...]
    """Words that follow `grasp-bench` on the command line of the run."""
    record: Path
    log: Path
    """File with what the command prints."""

    @property
    def name(self) -> str:
        """Name by which jobs and the JSON of `status` know the cell; no two cells of a sweep have the same."""
        return f"{self.plan.label} on {self.plan.task_label}, seed {self.plan.spec.seed}"

    @cached_property
    def training(self) -> str:
        """Key of the training stage; cells that differ only in guidance have the same."""
        return stage_keys(self.plan)["train"]


@dataclass(frozen=True)
class Sweep:
    """The runs that a file asks for."""

    path: Path
    config: SweepConfig
    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        """Name of the sweep: that of its file, without the ending."""
        return self.path.stem

    @property
    def folder(self) -> Path:
        """Folder of the sweep's logs."""
        return _folder(self.path, self.config)


def read_sweep(path: Path) -> Sweep:
    """Return the cells of the sweep that a TOML file describes, by task, seed, backbone, method and guidance.

    The first seed of every method comes before the second of any, so a sweep that is stopped early has compared them
    all. Raises :class:`UserError` that names the file and every cell that cannot be run.
    """
    config, choices = read_choices(path)
    cells: list[Cell] = []
    wrong: dict[str, list[Choice]] = {}
    for choice in choices:
        try:
            cells.append(_cell(path, config, choice))
        except UserError as error:
            wrong.setdefault(str(error), []).append(choice)
    if wrong:
        lines = [f"  {first}{f' and {len(rest)} more' if rest else ''}: {why}" for why, (first, *rest) in wrong.items()]
        count = sum(map(len, wrong.values()))
        raise UserError("\n".join([f"{path}: {count} of {len(choices)} cells cannot be run.", *lines]))
    _check_distinct(path, cells, choices)
    return Sweep(path, config, tuple(cells))


def read_choices(path: Path) -> tuple[SweepConfig, list[Choice]]:
    """Return the file of a sweep and the points of its grid, none of which is checked yet."""
    config = read_config(path)
    if (size := _size(config)) > MOST_CELLS:
        raise UserError(f"{path}: it has {size:,} cells, at most {MOST_CELLS:,} are read. List fewer values.")
    return config, _without(path, config.exclude, list(_choices(config)))


def by_training(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Return the cells in groups that share a training, in the order of each group's first."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.training, []).append(cell)
    return list(groups.values())


def _size(config: SweepConfig) -> int:
    """Number of cells before any is left out."""

    def points(names: Sequence[str], grids: dict[str, Grid]) -> int:
        return sum(math.prod(map(len, grids.get(name, {}).values())) for name in names)

    return math.prod(
        (
            points(config.tasks, config.task_set) * max(1, len(config.evaluations)),
            len(config.seeds) * len(config.backbones or [None]),
            points(config.methods, config.set),
            points(config.guidances, config.guidance_set) if config.guidances else 1,
        )
    )


def _choices(config: SweepConfig) -> Iterator[Choice]:
    limits = [*_points({"evaluations": config.evaluations})] if config.evaluations else [()]
    tasks = [
        (name, (*each, *limit))
        for name in config.tasks
        for each in _points(config.task_set.get(name, {}))
        for limit in limits
    ]
    methods = [(name, each) for name in config.methods for each in _points(config.set.get(name, {}))]
    guidances: list[tuple[str | None, tuple[str, ...]]] = [
        (name, each) for name in config.guidances or () for each in _points(config.guidance_set.get(name, {}))
    ]
    backbones: list[str | None] = [*config.backbones] if config.backbones else [None]
    axes = itertools.product(tasks, config.seeds, backbones, methods, guidances or [(None, ())])
    for (task, task_set), seed, backbone, (method, method_set), (guidance, guidance_set) in axes:
        yield Choice(task, task_set, seed, backbone, method, method_set, guidance, guidance_set)


def _points(grid: Grid) -> Iterator[tuple[str, ...]]:
    return itertools.product(*([f"{name}={value}" for value in values] for name, values in grid.items()))


def _without(path: Path, excludes: list[Exclude], choices: list[Choice]) -> list[Choice]:
    """Return the choices that no exclusion matches. Raises :class:`UserError` for an exclusion that matches nothing."""
    left = choices
    for number, exclude in enumerate(excludes, 1):
        matched = {choice for choice in choices if _matches(exclude, choice)}
        if not matched:
            raise UserError(
                f"{path}: exclude, number {number}: no cell matches it. Name what the sweep has, such as "
                f"method = {choices[0].method!r}, or remove it."
            )
        left = [choice for choice in left if choice not in matched]
    if not left:
        raise UserError(f"{path}: exclude: leaves no cell.")
    return left


def _matches(exclude: Exclude, choice: Choice) -> bool:
    def agrees(key: str) -> bool:
        wanted, found = getattr(exclude, key), getattr(choice, key)
        if isinstance(wanted, dict):
            return all(any(f"{name}={value}" in found for value in values) for name, values in wanted.items())
        return found in wanted

    return bool(exclude.model_fields_set) and all(map(agrees, exclude.model_fields_set))


def _cell(path: Path, config: SweepConfig, choice: Choice) -> Cell:
    chosen = _plan(config, choice)
    of_the_method = config.tuned and chosen.default_guidance  # its search has chosen that guidance's scale
    if config.tuned_guidances and not of_the_method and tuned_ranges(type(chosen.guidance.config)):
        by_hand = {each.partition("=")[0] for each in choice.guidance_set}
        found = tuned_guidance(chosen, config.options.results)
        searched = (f"{name}={value}" for name, value in found.items() if name not in by_hand)
        choice = replace(choice, guidance_set=(*choice.guidance_set, *searched))
        chosen = _plan(config, choice)
    if config.tuned:
        chosen = with_tuned(chosen, config.options.results)
    options = config.options
    check_sharing(chosen, options.accumulate, options.shard, options.processes or 1)
    return Cell(
        chosen,
        tuple(_arguments(config, choice, options.data_root.get(choice.task))),
        config.options.results / chosen.folder / RECORD_NAME,
        _folder(path, config) / chosen.folder.with_suffix(".log"),
    )


def _plan(config: SweepConfig, choice: Choice) -> Plan:
    """Return the run of a choice, without what a search chose."""
    return plan(
        method=choice.method,
        task=choice.task,
        seed=int(choice.seed),
        guidance=choice.guidance,
        backbone=choice.backbone,
        resolution=config.resolution,
        budget=config.budget,
        method_settings=choice.set,
        task_settings=choice.task_set,
        guidance_settings=choice.guidance_set,
        data_root=config.options.data_root.get(choice.task),
    )


def _folder(path: Path, config: SweepConfig) -> Path:
    return config.options.kept / "sweep" / path.stem


def _arguments(config: SweepConfig, choice: Choice, data_root: Path | None) -> Iterator[str]:
    assigned = {"task": choice.task_set, "method": choice.set, "guidance": choice.guidance_set}
    yield from run_command(
        choice.method,
        choice.task,
        [choice.seed],
        guidance=choice.guidance,
        backbone=choice.backbone,
        resolution=config.resolution,
        budget=config.budget,
        changed={owner: dict(each.split("=", 1) for each in settings) for owner, settings in assigned.items()},
        tuned=config.tuned,
    )[1:]
    yield "--no-estimate"  # the sweep has one for all
    options = config.options.model_dump(exclude_unset=True, exclude={"data_root"})
    for name, value in (options | ({"data_root": data_root} if data_root else {})).items():
        option = f"--{name.replace('_', '-')}"
        if name == "gradient_checkpointing" and isinstance(value, bool):
            yield from (option, "on" if value else "off")
        elif not isinstance(value, bool):
            yield from (option, str(value))
        elif value:
            yield option


def _check_distinct(path: Path, cells: list[Cell], choices: list[Choice]) -> None:
    """Raise :class:`UserError` for two cells with the same record, which would overwrite each other."""
    first: dict[Path, Choice] = {}
    for cell, choice in zip(cells, choices, strict=True):
        if cell.record in first:
            raise UserError(
                f"{path}: two cells would write {cell.record}: {first[cell.record]}; and {choice}. Keep one of them."
            )
        first[cell.record] = choice
