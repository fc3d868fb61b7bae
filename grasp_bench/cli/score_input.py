"""What ``grasp-bench score`` is given: sets of images or features, their labels, groups and extractor."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from grasp_bench.contracts.extractor import PretrainedExtractor
from grasp_bench.contracts.progress import Progress
from grasp_bench.data.features import FeatureSet, cached_features, holds_features, read_features
from grasp_bench.data.images import ImageSet, read_image_set
from grasp_bench.data.labels import Row, align, csv_lines, read_labels, some
from grasp_bench.data.longtail import groups_by_count
from grasp_bench.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Source:
    """One set, opened: of images, or of features already."""

    role: str
    """REAL, FAKE or --train."""
    path: Path
    ids: list[str]
    labels: list[str] | None
    columns: dict[str, list[str]]
    ignored: list[str]
    images: ImageSet | None = None
    found: FeatureSet | None = None

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
        return Source(role, path, ids, names, columns, [], found=found)
    images = read_image_set(path, labels)
    return Source(role, path, images.ids, images.labels, images.columns, images.ignored, images=images)


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
        raise UserError(f"{path}: labels for {len(nowhere)} images that neither {sets} holds: {some(nowhere)}.")
    aligned = [align(part, source.ids, path, source.path) for source, part in zip(sources, parts, strict=True)]
    return [replace(each, labels=own, columns=further) for each, (own, further) in zip(sources, aligned, strict=True)]


def class_names(sources: Sequence[Source]) -> list[str] | None:
    """The classes, which must be the same in all sets; numbers in their order. None where no set has labels."""
    first = sources[0]
    for each in sources[1:]:
        if (each.labels is None) != (first.labels is None):
            with_, without = (first, each) if each.labels is None else (each, first)
            raise UserError(
                f"{with_} has labels and {without} has none. Give both class sub-folders or labels, or neither."
            )
        if first.labels is not None and each.labels is not None:
            only = [sorted(set(a) - set(b)) for a, b in ((first.labels, each.labels), (each.labels, first.labels))]
            if any(only):
                parts = [f"only in {s}: {some(o)}" for s, o in zip((first, each), only, strict=True) if o]
                raise UserError(f"the classes differ: {'; '.join(parts)}. Take them out or add images of them.")
    if first.labels is None:
        return None
    names = set(first.labels)
    numbers = all(name.isascii() and name.isdigit() for name in names)
    return sorted(names, key=(lambda name: (int(name), name)) if numbers else None)


def read_groups(path: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Group → its classes, of a CSV file with the columns ``class`` and ``group`` that holds every class once."""
    lines = csv_lines(path)
    header = [name.lower() for name in lines[0][1]] if lines else []
    if sorted(header) != ["class", "group"]:
        raise UserError(f"{path}, line 1: the columns are {', '.join(header) or 'none'}, expected: class,group")
    groups: dict[str, list[str]] = {}
    seen: dict[str, int] = {}
    for number, row in lines[1:]:
        if len(row) != 2 or not all(row):
            raise UserError(f"{path}, line {number}: expected a class and a group, found {','.join(row)!r}.")
        name, group = row if header[0] == "class" else row[::-1]
        if name in seen:
            raise UserError(f"{path}, line {number}: class {name!r} has a group on line {seen[name]} already.")
        if name not in names:
            hint = did_you_mean(name, names)
            raise UserError(f"{path}, line {number}: class {name!r} has no images.{hint} There are: {some(names)}.")
        if group == "all":
            raise UserError(f'{path}, line {number}: no group may be called "all": it stands for every class.')
        seen[name] = number
        groups.setdefault(group, []).append(name)
    if missing := [name for name in names if name not in seen]:
        raise UserError(f"{path}: no group for {len(missing)} of {len(names)} classes: {some(missing)}.")
    return groups


def split_groups(counts: Mapping[str, int], head_above: int, tail_below: int) -> dict[str, list[str]]:
    """Head, medium and tail by the number of images of each class; those without a class are left out."""
    if tail_below > head_above + 1:
        raise UserError(
            f"--head-above {head_above} and --tail-below {tail_below}: a class could be both. Lower --tail-below."
        )
    found = groups_by_count(counts, head_above, tail_below)
    groups = {group: [name for name in counts if found[name] == group] for group in ("head", "medium", "tail")}
    return {group: classes for group, classes in groups.items() if classes}


def features_of(
    sources: Sequence[Source],
    resolve: Callable[[], PretrainedExtractor],
    cache_dir: Path,
    batch_size: int,
    progress: Progress,
) -> tuple[list[FeatureSet], dict[str, str] | None]:
    """Features of every set in an order that does not depend on the files', and what they were extracted with."""
    extractor = resolve() if any(each.images is not None for each in sources) else None
    recorded = [each.found.extractor if each.found is not None else None for each in sources]
    identities = [extractor.identity if s.images and extractor else r for s, r in zip(sources, recorded, strict=True)]
    known = [(source, identity) for source, identity in zip(sources, identities, strict=True) if identity]
    for source, identity in known[1:]:
        first, expected = known[0]
        if differ := sorted(key for key in expected.keys() | identity.keys() if expected.get(key) != identity.get(key)):
            told = "; ".join(f"{key}: {expected.get(key)} / {identity.get(key)}" for key in differ)
            raise UserError(f"{first} and {source} are not of one extractor ({told}). Extract both with the same.")
    if extractor is not None and len(known) < len(sources):
        source = next(s for s, identity in zip(sources, identities, strict=True) if not identity)
        raise UserError(
            f"{source}: does not say which extractor its features come from, so images cannot be compared with "
            "them. Give the images, or a file written by --features-out."
        )
    sets = []
    for source in sources:
        if source.images is not None and extractor is not None:
            features = cached_features(source.images, extractor, cache_dir, batch_size, progress)
            found = FeatureSet(features, source.labels, source.ids, extractor.identity)
        elif source.found is not None:
            found = replace(source.found, labels=source.labels)
        sets.append(found)
    for source, found in zip(sources[1:], sets[1:], strict=True):
        if (width := found.features.shape[1]) != (expected_width := sets[0].features.shape[1]):
            raise UserError(
                f"{sources[0]} has features of width {expected_width} and {source} of width {width}: they are not of "
                "one extractor. Extract both with the same."
            )
    return sets, known[0][1] if known else None


def indices_of(source: Source, names: Sequence[str]) -> np.ndarray:
    """Index among ``names`` of every image's class (n,); of the only one where there are no labels."""
    position = {name: index for index, name in enumerate(names)}
    return np.array([position[label] for label in source.labels or [names[0]] * len(source.ids)], dtype=np.int64)


def draw_keys(source: Source, features: np.ndarray) -> list[str]:
    """What identifies each image when images are drawn: its name, or its content where names are mere positions."""
    if source.ids != [str(row) for row in range(len(features))]:
        return source.ids
    if source.images is not None:
        return source.images.digests()
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
            raise UserError(f"{each}: {column} is empty for {len(empty)} images: {some(empty)}. Fill it in.")
    return [np.array(each.columns[column]) if column in each.columns else None for each in sources]
