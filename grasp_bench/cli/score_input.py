"""What ``grasp-bench score`` is given: sets of images or features, their labels, groups and extractor."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from grasp_bench.contracts.extractor import PretrainedExtractor
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.task import GROUPS
from grasp_bench.data.features import FeatureSet, cached_features, holds_features, read_features
from grasp_bench.data.images import ImageSet, read_image_set
from grasp_bench.data.labels import Row, align, read_labels
from grasp_bench.data.longtail import groups_by_count
from grasp_bench.errors import UserError, did_you_mean, other_form
from grasp_bench.text import counted, some


@dataclass(frozen=True)
class Source:
    """One set, opened: of images, or of features already."""

    role: str
    """REAL, FAKE or --train."""
    path: Path
    ids: list[str]
    labels: list[str] | None
    columns: dict[str, list[str]]
    held: ImageSet | FeatureSet
    ignored: Mapping[str, list[str]] = field(default_factory=dict)
    """Why files of the folder are no images of the set → their paths."""

    def __str__(self) -> str:
        return f"{self.role} ({self.path})"


def open_source(role: str, path: Path, labels: Path | None) -> Source:
    """A set with the labels that it brings, or those of a file of its own."""
    if holds_features(path):
        found = read_features(path)
        ids = found.ids or [str(row) for row in range(len(found.features))]
        if len(set(ids)) < len(ids):
            raise UserError(f"{path}: ids appear more than once. Give every row its own.")
        names, columns = align(read_labels(labels), ids, labels, path) if labels else (found.labels, {})
        return Source(role, path, ids, names, columns, found)
    images = read_image_set(path, labels)
    return Source(role, path, images.ids, images.labels, images.columns, images, images.ignored)


def share_labels(path: Path, sources: Sequence[Source]) -> list[Source]:
    """``sources`` with the labels of one file for all; each row must name an image of exactly one of them."""
    rows = read_labels(path)
    parts: list[dict[str, Row]] = [{} for _ in sources]
    names = [set(each.ids) | {PurePosixPath(name).name for name in each.ids} for each in sources]
    nowhere = []
    for name, row in rows.items():
        holders = [index for index, known in enumerate(names) if name in known]
        if len(holders) > 1:
            both = " and ".join(str(sources[index]) for index in holders)
            raise UserError(
                f"{path}, line {row.line}: {name!r} is an image of {both}. Give each set its own file with "
                "--real-labels and --fake-labels."
            )
        if holders:
            parts[holders[0]][name] = row
        else:
            nowhere.append(f"{name!r} (line {row.line})")
    if nowhere:
        sets = " nor ".join(map(str, sources))
        hint = other_form(rows, [name for known in names for name in known])
        raise UserError(
            f"{path}: labels for {counted(len(nowhere), 'image')} that neither {sets} holds: {some(nowhere)}.{hint}"
        )
    aligned = [align(part, source.ids, path, source.path) for source, part in zip(sources, parts, strict=True)]
    return [replace(each, labels=own, columns=further) for each, (own, further) in zip(sources, aligned, strict=True)]


def classes_of(
    sources: Sequence[Source], groups: Path | None, limits: tuple[int | None, int | None], per_class: bool
) -> tuple[list[str], dict[str, np.ndarray]]:
    """The classes, and each group's indices among them, "all" last; groups are of a file or by ``limits``.

    The limits are of the number of real images: head above the first, tail below the second.
    """
    head_above, tail_below = limits
    if groups and limits != (None, None):
        raise UserError("--groups and --head-above/--tail-below both make groups. Give one.")
    if limits != (None, None) and None in limits:
        raise UserError("--head-above and --tail-below go together: give both.")
    names = _class_names(sources)
    if names is None:
        if groups or head_above is not None or per_class:
            raise UserError(
                f"{sources[0]} has no labels, so there are no classes to group or to show. Give class sub-folders, "
                "labels in the file, or --labels."
            )
        return ["all"], {"all": np.arange(1)}
    found = _read_groups(groups, names) if groups else {}
    if head_above is not None and tail_below is not None:
        if tail_below > head_above + 1:
            raise UserError(
                f"--head-above {head_above} and --tail-below {tail_below}: a class could be both. Lower --tail-below."
            )
        by_count = groups_by_count(Counter(sources[0].labels), head_above, tail_below)
        found = dict(sorted(by_count.items(), key=lambda each: GROUPS.index(each[1])))
    members = {group: np.flatnonzero([found[name] == group for name in names]) for group in found.values()}
    return names, members | {"all": np.arange(len(names))}


def _class_names(sources: Sequence[Source]) -> list[str] | None:
    """The classes, which must be the same in all sets; numbers in their order. None where no set has labels."""
    first = sources[0]
    for each in sources[1:]:
        if (each.labels is None) != (first.labels is None):
            with_, without = (first, each) if each.labels is None else (each, first)
            raise UserError(
                f"{with_} has labels and {without} has none. Give both class sub-folders or labels, or neither."
            )
        ours, theirs = set(first.labels or ()), set(each.labels or ())
        only = ((first, ours - theirs), (each, theirs - ours))
        if parts := [f"only in {source}: {some(sorted(classes))}" for source, classes in only if classes]:
            hint = other_form(sorted(theirs - ours), ours)
            raise UserError(f"the classes differ: {'; '.join(parts)}. Take them out or add images of them.{hint}")
    if first.labels is None:
        return None
    names = set(first.labels)
    numbers = all(name.isascii() and name.isdigit() for name in names)
    return sorted(names, key=_by_number if numbers else None)


def _by_number(digits: str) -> tuple[int, str, str]:
    """The order of numbers by their digits, since int() takes no more than 4,300 of them."""
    bare = digits.lstrip("0")
    return len(bare), bare, digits


def _read_groups(path: Path, names: Sequence[str]) -> dict[str, str]:
    """Class → its group, of a CSV file with the columns ``class`` and ``group`` that holds every class once."""
    rows = read_labels(path, ("class",), ("group",))
    for name, row in rows.items():
        if name not in names:
            hint = did_you_mean(name, names)
            raise UserError(f"{path}, line {row.line}: class {name!r} has no images.{hint} There are: {some(names)}.")
        if row.label == "all":
            raise UserError(f'{path}, line {row.line}: no group may be called "all": it stands for every class.')
    if missing := [name for name in names if name not in rows]:
        raise UserError(f"{path}: no group for {len(missing)} of {len(names)} classes: {some(missing)}.")
    return {name: row.label for name, row in rows.items()}


def features_of(
    sources: Sequence[Source],
    resolve: Callable[[], PretrainedExtractor],
    cache_dir: Path,
    batch_size: int,
    progress: Progress,
) -> tuple[list[FeatureSet], dict[str, str]]:
    """Features of every set, and what they were extracted with; empty where no file says it."""
    extractor = resolve() if any(isinstance(each.held, ImageSet) for each in sources) else None
    own = extractor.identity if extractor else {}
    identities = [own if isinstance(each.held, ImageSet) else each.held.extractor or {} for each in sources]
    known = [(source, identity) for source, identity in zip(sources, identities, strict=True) if identity]
    for source, identity in known[1:]:
        first, expected = known[0]
        if differ := sorted(key for key in expected.keys() | identity.keys() if expected.get(key) != identity.get(key)):
            told = "; ".join(f"{key}: {expected.get(key)} / {identity.get(key)}" for key in differ)
            raise UserError(f"{first} and {source} are not of one extractor ({told}). Extract both with the same.")
    if extractor is not None and {} in identities:
        raise UserError(
            f"{sources[identities.index({})]}: does not say which extractor its features come from, so images cannot "
            "be compared with them. Give the images, or a file written by --features-out."
        )
    sets: list[FeatureSet] = []
    for source in sources:
        if isinstance(source.held, FeatureSet):
            sets.append(replace(source.held, labels=source.labels))
        elif extractor is not None:
            features = cached_features(source.held, extractor, cache_dir, batch_size, progress)
            sets.append(FeatureSet(features, source.labels, source.ids, own))
        width, expected_width = sets[-1].features.shape[1], sets[0].features.shape[1]
        if width != expected_width:
            raise UserError(
                f"{sources[0]} has features of width {expected_width} and {source} of width {width}: they are not of "
                "one extractor. Extract both with the same."
            )
    return sets, known[0][1] if known else {}


def indices_of(source: Source, names: Sequence[str]) -> np.ndarray:
    """Index among ``names`` of every image's class (n,); of the only one where there are no labels."""
    position = {name: index for index, name in enumerate(names)}
    return np.array([position[label] for label in source.labels or [names[0]] * len(source.ids)], dtype=np.int64)


def draw_keys(source: Source, features: np.ndarray) -> list[str]:
    """What identifies each image when images are drawn: its name, or its content where names are mere positions."""
    if source.ids != [str(row) for row in range(len(features))]:
        return source.ids
    if isinstance(source.held, ImageSet):
        return source.held.digests()
    return [hashlib.sha256(row.tobytes()).hexdigest() for row in features]


def units_of(sources: Sequence[Source], column: str) -> list[np.ndarray | None]:
    """The column's value for every image of each set that has it."""
    if not any(column in each.columns for each in sources):
        there = sorted({name for each in sources for name in each.columns})
        hint = did_you_mean(column, there)
        raise UserError(
            f"--cluster-by {column}: no labels file has this column.{hint} There are: {', '.join(there) or 'none'}."
        )
    for each in sources:
        if empty := [name for name, value in zip(each.ids, each.columns.get(column, []), strict=False) if not value]:
            raise UserError(f"{each}: {column} is empty for {counted(len(empty), 'image')}: {some(empty)}. Fill it in.")
    return [np.array(each.columns[column]) if column in each.columns else None for each in sources]
