"""The checks of a task; the docstring of each is its contract."""

from __future__ import annotations

import functools
import tempfile
from collections import Counter
from dataclasses import dataclass
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np

from grasp_bench import plugins
from grasp_bench.backbones.aliases import resolve
from grasp_bench.contracts.spec import SMOKE, STANDARD
from grasp_bench.contracts.task import GROUPS, Dataset, Split, Task, TaskSettings, membership
from grasp_bench.data.longtail import groups_by_count
from grasp_bench.errors import UserError
from grasp_bench.extractors import choose_extractor
from grasp_bench.run.options import Options
from grasp_bench.run.plan import plan
from grasp_bench.run.resolve import choose_backbone, make_task
from grasp_bench.run.runner import run
from grasp_bench.testing.checks import NotApplicable, require
from grasp_bench.testing.compare import none, some
from grasp_bench.testing.rig import SILENT, scratch

LOOKED_AT = 64  # images of a split, evenly spaced, where pixels are compared


@dataclass
class Subject:
    """A task with its settings."""

    name: str
    settings: tuple[str, ...]

    @functools.cached_property
    def task(self) -> Task[TaskSettings]:
        """The task. Raises :class:`NotApplicable` where its data is not there."""
        try:
            return make_task(self.name, self.settings, None)[1]
        except UserError as error:
            raise NotApplicable(str(error)) from error

    @functools.cached_property
    def backbone(self) -> str:
        """The task's default backbone, if its weights are here, or else a small one."""
        try:
            choose_backbone(self.task.backbone)
        except UserError:
            return "tiny-sd3-32"
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


def budgets(subject: Subject) -> None:
    """There are budgets "standard" and "smoke", each under its own name."""
    found = subject.task.budgets
    missing = {STANDARD, SMOKE} - found.keys()
    require(not missing, f"there is no budget {some(missing)}: it has {', '.join(found) or 'none'}")
    misnamed = [f"{budget.name!r} under {name!r}" for name, budget in found.items() if budget.name != name]
    require(not misnamed, f"budgets are kept under other names: {', '.join(misnamed)}")


def classes(subject: Subject) -> None:
    """Classes have names and prompts of their own, and there are at least two."""
    infos = subject.task.classes()
    require(len(infos) > 1, f"there are {len(infos)} classes")
    for what, values in (("name", [info.name for info in infos]), ("prompt", [info.prompt for info in infos])):
        empty = [str(index) for index, value in enumerate(values) if not value.strip()]
        none(f"classes without a {what}, by index", empty)
        twice = [value for value, count in Counter(values).items() if count > 1]
        require(not twice, f"classes share the {what} {some(twice)}")
    none("classes without a group", [info.name for info in infos if not info.group])


def names(subject: Subject) -> None:
    """The backbone, guidance and extractors that it names are installed."""
    task = subject.task
    try:
        resolve(task.backbone)
        plugins.load("guidance", task.guidance)
        for name in task.extractors:
            choose_extractor(name)
    except UserError as error:
        raise AssertionError(str(error)) from error


def groups(subject: Subject) -> None:
    """Head classes have at least as many training images as medium ones, and these as tail ones; with head_above and
    tail_below, groups are what these say.
    """
    task, config = subject.task, subject.task.config
    infos = task.classes()
    if getattr(config, "groups", None):
        raise NotApplicable("its settings say which class is in which group")
    if others := {info.group for info in infos} - set(GROUPS):
        raise NotApplicable(f"its groups are not by counts: {some(others)}")
    for info, other in permutations(infos, 2):
        rarer = GROUPS.index(info.group) > GROUPS.index(other.group)
        require(
            not (rarer and info.train_count > other.train_count),
            f"{info.name} is {info.group} with {info.train_count} training images, {other.name} {other.group} with "
            f"{other.train_count}",
        )
    above, below = getattr(config, "head_above", None), getattr(config, "tail_below", None)
    if above is not None and below is not None:
        expected = groups_by_count({info.name: info.train_count for info in infos}, above, below)
        odd = [f"{info.name} is {info.group}" for info in infos if info.group != expected[info.name]]
        require(not odd, f"head_above={above}, tail_below={below}, but {some(odd)}")


def prepare(subject: Subject) -> None:
    """Preparing twice gives equal data: images, labels, prompts, in the same order."""
    first, second = _splits(subject.data), _splits(subject.prepare())
    require(first.keys() == second.keys(), f"splits are {some(first)} and then {some(second)}")
    for name, split in first.items():
        other = second[name]
        same = split.ids == other.ids and split.prompts == other.prompts and np.array_equal(split.labels, other.labels)
        same = same and np.array_equal(split.truth, other.truth)
        require(same, f"ids, labels or prompts of {name} differ")
        indices = _spaced(split)
        require(np.array_equal(split.read(indices), other.read(indices)), f"images of {name} differ")


def counts(subject: Subject) -> None:
    """Classes have as many training images as they say, and every split has images."""
    infos, data = subject.task.classes(), subject.data
    empty = [name for name, split in _splits(data).items() if not len(split)]
    require(not empty, f"there are no images in {some(empty)}")
    found = membership(data.train.truth, len(infos)).sum(axis=0)
    odd = [
        f"{info.name} says {info.train_count} and has {count}"
        for info, count in zip(infos, found.tolist(), strict=True)
        if info.train_count != count
    ]
    none("training images", odd)


def labels(subject: Subject) -> None:
    """Every image has the index of a class, which is among its labels, and a prompt that is not empty."""
    number = len(subject.task.classes())
    for name, split in _splits(subject.data).items():
        kind = split.labels.dtype
        require(np.issubdtype(kind, np.integer), f"labels of {name} are {kind}, expected int64")
        ids, labelled, prompts = len(split.ids), len(split.labels), len(split.prompts)
        require(ids == labelled == prompts, f"{name} has {ids} ids, {labelled} labels, {prompts} prompts")
        inside = (split.labels >= 0) & (split.labels < number)
        require(inside.all(), f"labels of {name} are not all from 0 to {number - 1}")
        require(all(split.prompts), f"an image of {name} has an empty prompt")
        several = subject.task.multilabel
        require((split.sets is not None) == several, f"multilabel is {several}, and {name} has sets: {not several}")
        if split.sets is not None:
            expected = (len(split), number)
            require(split.sets.dtype == np.bool_, f"sets of {name} are {split.sets.dtype}, expected bool")
            require(split.sets.shape == expected, f"sets of {name} are {split.sets.shape}, expected {expected}")
            own = split.sets[np.arange(len(split)), split.labels]
            require(own.all(), f"an image of {name} has a class that is not among its labels")


def disjoint(subject: Subject) -> None:
    """No image, and no patient, is in two splits; a balanced test set is part of the test set."""
    data = subject.data
    found = _splits(data)
    for name, split in found.items():
        none(f"{name} has images more than once", [each for each, count in Counter(split.ids).items() if count > 1])
    for (first, one), (second, other) in combinations(found.items(), 2):
        shared = set(one.ids) & set(other.ids)
        none(f"{first} and {second} share images", shared)
        if one.patients is not None and other.patients is not None:
            people = set(one.patients.tolist()) & set(other.patients.tolist())
            require(not people, f"{first} and {second} share {len(people)} patients")
    if data.balanced_test:
        beyond = set(data.balanced_test.ids) - set(data.test.ids)
        none("the balanced test set has images that the test set has not", beyond)


def images(subject: Subject) -> None:
    """read() gives uint8 images (k, C, H, W) of the backbone's shape, in the order that was asked for."""
    shape = choose_backbone(subject.backbone).image_shape
    for name, split in _splits(subject.data).items():
        indices = _spaced(split)
        found = split.read(indices)
        require(found.dtype == np.uint8, f"images of {name} are {found.dtype}, expected uint8")
        expected = (len(indices), *shape)
        require(found.shape == expected, f"images of {name} have the shape {found.shape}, expected {expected}")
        turned = split.read(indices[::-1].copy())
        require(np.array_equal(turned[::-1], found), f"read() of {name} does not keep the order of its indices")


def smoke_run(subject: Subject) -> None:
    """Full fine-tuning under the smoke budget goes from the data to scores of every group."""
    folder = Path(tempfile.mkdtemp(dir=scratch()))
    options = Options(folder / "results", folder / "work", "cpu")
    try:
        run_of: dict[str, Any] = {"task": subject.name, "task_settings": subject.settings, "backbone": subject.backbone}
        record = run(plan(method="vanilla-ft", budget=SMOKE, **run_of), options, SILENT)[1]
    except UserError as error:
        raise NotApplicable(str(error)) from error
    if record.status == "skipped":
        raise NotApplicable(record.reason or "")
    scored = {score.group for score in record.scores if score.value is not None}
    missing = set(subject.task.groups) - scored
    require(not missing, f"there are no scores of the groups {some(missing)}")


def _splits(data: Dataset) -> dict[str, Split]:
    """The disjoint splits of a task's data, by name."""
    named = {"train": data.train, "validation": data.validation, "test": data.test, "pool": data.pool}
    return {name: split for name, split in named.items() if split is not None}


def _spaced(split: Split) -> np.ndarray:
    return np.linspace(0, len(split) - 1, min(LOOKED_AT, len(split))).astype(int)
