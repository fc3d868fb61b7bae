"""What each check of a task does; named as in ``tasks.CONTRACT``."""

from __future__ import annotations

import tempfile
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np

from grasp_bench import plugins
from grasp_bench.backbones.aliases import resolve
from grasp_bench.contracts.spec import SMOKE, STANDARD
from grasp_bench.contracts.task import GROUPS, Split
from grasp_bench.data.longtail import groups_by_count
from grasp_bench.errors import UserError
from grasp_bench.run.context import Options
from grasp_bench.run.plan import plan
from grasp_bench.run.resolve import choose_backbone
from grasp_bench.run.runner import run
from grasp_bench.testing.anatomy import some
from grasp_bench.testing.checks import NotApplicable, require
from grasp_bench.testing.data import Subject, splits
from grasp_bench.testing.rig import SILENT, scratch

LOOKED_AT = 64  # images of a split, evenly spaced, where pixels are compared


def budgets(subject: Subject) -> None:
    """Names of the budgets."""
    found = subject.task.budgets
    missing = {STANDARD, SMOKE} - found.keys()
    require(not missing, f"there is no budget {some(missing)}: it has {', '.join(found) or 'none'}")
    misnamed = [f"{budget.name!r} under {name!r}" for name, budget in found.items() if budget.name != name]
    require(not misnamed, f"budgets are kept under other names: {', '.join(misnamed)}")


def classes(subject: Subject) -> None:
    """Names and prompts of the classes."""
    infos = subject.task.classes()
    require(len(infos) > 1, f"there are {len(infos)} classes")
    for what, values in (("name", [info.name for info in infos]), ("prompt", [info.prompt for info in infos])):
        empty = [str(index) for index, value in enumerate(values) if not value.strip()]
        require(not empty, f"classes without a {what}, by index: {some(empty)}")
        twice = [value for value, count in Counter(values).items() if count > 1]
        require(not twice, f"classes share the {what} {some(twice)}")
    without = [info.name for info in infos if not info.group]
    require(not without, f"classes without a group: {some(without)}")


def names(subject: Subject) -> None:
    """What the task names, in the registries; weights need not be here."""
    task = subject.task
    try:
        resolve(task.backbone)
        plugins.load("guidance", task.guidance)
        plugins.load("extractors", task.extractor)
    except UserError as error:
        raise AssertionError(str(error)) from error


def groups(subject: Subject) -> None:
    """Groups against training images."""
    task, config = subject.task, subject.task.config
    infos = task.classes()
    if getattr(config, "groups", None):
        raise NotApplicable("its settings say which class is in which group")
    if others := {info.group for info in infos} - set(GROUPS):
        raise NotApplicable(f"its groups are not by counts: {some(others)}")
    for info in infos:
        for other in infos:
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
    """Data that was prepared in two folders."""
    first, second = splits(subject.data), splits(subject.prepare())
    require(first.keys() == second.keys(), f"splits are {some(first)} and then {some(second)}")
    for name, split in first.items():
        other = second[name]
        same = split.ids == other.ids and split.prompts == other.prompts and np.array_equal(split.labels, other.labels)
        require(same, f"ids, labels or prompts of {name} differ")
        indices = _spaced(split)
        require(np.array_equal(split.read(indices), other.read(indices)), f"images of {name} differ")


def counts(subject: Subject) -> None:
    """Training images of each class, counted."""
    infos, data = subject.task.classes(), subject.data
    empty = [name for name, split in splits(data).items() if not len(split)]
    require(not empty, f"there are no images in {some(empty)}")
    found = np.bincount(data.train.labels, minlength=len(infos))
    odd = [
        f"{info.name} says {info.train_count} and has {count}"
        for info, count in zip(infos, found.tolist(), strict=True)
        if info.train_count != count
    ]
    require(not odd, f"training images: {some(odd)}")


def labels(subject: Subject) -> None:
    """Labels and prompts of every split."""
    number = len(subject.task.classes())
    for name, split in splits(subject.data).items():
        kind = split.labels.dtype
        require(np.issubdtype(kind, np.integer), f"labels of {name} are {kind}, expected int64")
        sizes = {len(split.ids), len(split.labels), len(split.prompts)}
        require(
            len(sizes) == 1,
            f"{name} has {len(split.ids)} ids, {len(split.labels)} labels, {len(split.prompts)} prompts",
        )
        inside = (split.labels >= 0) & (split.labels < number)
        require(bool(inside.all()), f"labels of {name} are not all from 0 to {number - 1}")
        require(all(split.prompts), f"an image of {name} has an empty prompt")


def disjoint(subject: Subject) -> None:
    """Ids and patients of every two splits."""
    data = subject.data
    found = splits(data)
    for name, split in found.items():
        twice = [each for each, count in Counter(split.ids).items() if count > 1]
        require(not twice, f"{name} has images more than once: {some(twice)}")
    for (first, one), (second, other) in combinations(found.items(), 2):
        shared = set(one.ids) & set(other.ids)
        require(not shared, f"{first} and {second} share images: {some(shared)}")
        if one.patients is not None and other.patients is not None:
            people = set(one.patients.tolist()) & set(other.patients.tolist())
            require(not people, f"{first} and {second} share {len(people)} patients")
    if data.balanced_test:
        beyond = set(data.balanced_test.ids) - set(data.test.ids)
        require(not beyond, f"the balanced test set has images that the test set has not: {some(beyond)}")


def images(subject: Subject) -> None:
    """Pixels of every split, in order and in another."""
    shape = choose_backbone(subject.backbone).image_shape
    for name, split in splits(subject.data).items():
        indices = _spaced(split)
        found = split.read(indices)
        require(found.dtype == np.uint8, f"images of {name} are {found.dtype}, expected uint8")
        expected = (len(indices), *shape)
        require(found.shape == expected, f"images of {name} have the shape {found.shape}, expected {expected}")
        turned = split.read(indices[::-1].copy())
        require(np.array_equal(turned[::-1], found), f"read() of {name} does not keep the order of its indices")


def smoke_run(subject: Subject) -> None:
    """A run as ``grasp-bench run`` makes it, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(dir=scratch()))
    options = Options(folder / "results", folder / "work", "cpu")
    try:
        chosen = plan(
            method="vanilla-ft",
            task=subject.name,
            budget=SMOKE,
            backbone=subject.backbone,
            task_settings=subject.settings,
        )
        record = run(chosen, options, SILENT)[1]
    except UserError as error:
        raise NotApplicable(str(error)) from error
    if record.status == "skipped":
        raise NotApplicable(record.reason or "")
    scored = {score.group for score in record.scores if score.value is not None}
    missing = set(subject.task.groups) - scored
    require(not missing, f"there are no scores of the groups {some(missing)}")


def _spaced(split: Split) -> np.ndarray:
    return np.linspace(0, len(split) - 1, min(LOOKED_AT, len(split))).astype(int)
