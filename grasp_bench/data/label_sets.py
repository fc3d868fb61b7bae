"""Images that have several labels: the class of each, the prompt of a set, and which sets images are generated of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from grasp_bench.contracts.task import ClassInfo, ClassOf, LabelSets, Split, membership
from grasp_bench.seeds import rng

if TYPE_CHECKING:
    from grasp_bench.data.listing import Entry


def label_counts(entries: Iterable[Entry]) -> Counter[str]:
    """Label → training images that have it."""
    return Counter(label for entry in entries if entry.split == "train" for label in entry.labels)


def class_of(labels: Sequence[str], counts: Mapping[str, int], rule: ClassOf, image: str) -> str:
    """The one of an image's labels that is its class; ``counts`` are training images that have each label.

    Of labels that are equally frequent, "rarest" takes the last by name and "commonest" the first.
    """
    if rule == "drawn":
        return sorted(labels)[int(rng("class-of", image).integers(len(labels)))]
    order = sorted(labels, key=lambda name: (-counts[name], name))  # as class indices are
    return order[-1] if rule == "rarest" else order[0]


def with_classes(entries: Iterable[Entry], counts: Mapping[str, int], rule: ClassOf) -> list[Entry]:
    """The entries, of which each has its class as ``label`` and its other labels ``beside`` it."""
    found = []
    for entry in entries:
        label = class_of(entry.labels, counts, rule, entry.id)
        beside = tuple(sorted((name for name in entry.labels if name != label), key=lambda name: (-counts[name], name)))
        found.append(replace(entry, label=label, beside=beside))
    return found


def commonest_first(classes: Sequence[ClassInfo]) -> list[int]:
    """Class indices by falling number of training images; of equal ones the first by name comes first."""
    return sorted(range(len(classes)), key=lambda index: (-classes[index].train_count, classes[index].name))


def in_words(names: Sequence[str]) -> str:
    """Names as a prompt lists them: "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def as_matrix(sets: Iterable[Iterable[int]], classes: int) -> np.ndarray:
    """Sets of class indices as bool (n, classes)."""
    listed = [list(each) for each in sets]
    found = np.zeros((len(listed), classes), dtype=np.bool_)
    for row, each in zip(found, listed, strict=True):
        row[each] = True
    return found


def drawn_rows(train: Split, classes: int, each: int, how: LabelSets, task: str, seed: int) -> np.ndarray:
    """Rows of training images whose label sets and prompts generated images get: (classes × each,).

    With "focus" the block of ``each`` rows of a class is drawn with replacement from the images that have its label, so
    that its sets are as frequent as among these; with "natural" from all images. Every method gets the same at a seed.
    """
    everything = np.arange(len(train))
    members = membership(train.truth, classes)
    blocks = []
    for index in range(classes):
        pool = np.flatnonzero(members[:, index]) if how == "focus" else everything
        blocks.append(pool[rng("label-sets", task, seed, index).integers(len(pool), size=each)])
    return np.concatenate(blocks)
