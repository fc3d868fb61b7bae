"""Images of equal bytes, which a test set must not share with a training set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from grasp_bench.data.listing import Entry, Problem, in_two_splits


def repeated(entries: Sequence[Entry], hashes: Mapping[str, str]) -> dict[str, Entry]:
    """Path of each image whose bytes an earlier one has → the first of those; ``hashes`` are by path."""
    first: dict[str, Entry] = {}
    found = {each.path: first.setdefault(hashes[each.path], each) for each in entries}
    return {path: original for path, original in found.items() if original.path != path}


def twice(entries: Sequence[Entry], again: Mapping[str, Entry]) -> list[Problem]:
    """A problem for each image that :func:`repeated` found."""
    return [
        Problem("same image twice", each.where, f"{each.path} has the same bytes as {again[each.path].path}")
        for each in entries
        if each.path in again
    ]


def shared(entries: Sequence[Entry], hashes: Sequence[str]) -> list[Problem]:
    """A problem for each image of training, validation or test whose bytes are in another of the three, too."""
    return [
        Problem(
            "same image in two splits",
            entry.where,
            f"{entry.path} in {entry.split} has the same bytes as {first.path} in {first.split} ({first.where})",
        )
        for entry, first in in_two_splits(entries, hashes)
    ]


def joined(patients: Sequence[str], hashes: Sequence[str]) -> list[str]:
    """Each image's patient, or of those who share an image, directly or through others, the first by name."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names = {each: row for row, each in enumerate(sorted(set(patients)))}
    images = {each: row for row, each in enumerate(dict.fromkeys(hashes), start=len(names))}
    ends = [names[each] for each in patients], [images[each] for each in hashes]
    size = len(names) + len(images)
    part = connected_components(coo_array(([1] * len(patients), ends), shape=(size, size)), directed=False)[1]
    first: dict[int, str] = {}
    for name, row in names.items():
        first.setdefault(part[row], name)
    return [first[part[names[each]]] for each in patients]
