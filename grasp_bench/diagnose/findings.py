"""From gradients to the reported numbers: cosines, tests and partitions, as plain JSON."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from grasp_bench.contracts.task import ClassInfo
from grasp_bench.diagnose import alignment as al
from grasp_bench.stats import holm

WHOLE = "all"
"""The kind of all layers together."""
DRAWS = 500
PERMUTATIONS = 1000
NULLS = {"images": al.permuted_images, "classes": al.permuted_classes}
"""Null hypothesis → permutation of the labels; the name says what they are permuted among."""
MEASURED = ("cosine", "null", "p", "p_corrected")
"""Numbers of a test in one cell."""


@dataclass(frozen=True)
class Cell:
    """Gradients of one kind of layer at one noise level."""

    kind: str
    level: int
    gram: np.ndarray
    """(B, C, B, C), with exact zeros for classes that share no parameter."""
    apart: np.ndarray
    """bool (C, C)."""


def cells(values: Mapping[str, np.ndarray], apart: Mapping[str, np.ndarray]) -> list[Cell]:
    """Return the cells of gradients (levels, B, C, D) by kind, level by level.

    If there are several kinds, the cell of all layers together follows those of each level.
    """
    found = []
    for level in range(len(next(iter(values.values())))):
        own = [
            Cell(kind, level, al.gram_matrix(each[level]) * ~apart[kind][None, :, None, :], apart[kind])
            for kind, each in values.items()
        ]
        found += own
        if len(own) == 1:
            continue
        everywhere = np.logical_and.reduce([cell.apart for cell in own])
        found.append(Cell(WHOLE, level, np.add.reduce([cell.gram for cell in own]), everywhere))
    return found


def findings(
    found: Sequence[Cell],
    infos: Sequence[ClassInfo],
    groups: Sequence[str],
    partitions: Mapping[str, Mapping[str, int]],
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> dict[str, Any]:
    """Return cosines of ``groups`` and of the classes ``infos``, tests of pairs of groups, and the partitions' lifts.

    Numbers that cannot be measured are None.
    """
    batches = len(found[0].gram)
    group_of_class = np.array([groups.index(info.group) for info in infos])
    members = al.group_members(group_of_class, batches, rng)
    draws = al.resampled(batches, DRAWS, rng)
    belongs = np.eye(len(groups))[group_of_class].T  # (V, C)
    by_group = [
        _cosines(cell, al.vector_products(cell.gram, members), belongs @ cell.apart @ belongs.T, belongs, draws)
        for cell in found
    ]
    singly = np.eye(len(infos))
    by_class = [_cosines(cell, cell.gram, cell.apart.astype(float), singly, draws) for cell in found]
    return {
        "whole": found[-1].kind,
        "groups": {"names": list(groups), "gradients": round(batches / members.max()), "cells": by_group},
        "classes": {"names": [info.name for info in infos], "gradients": batches, "cells": by_class},
        "tests": _tests(found, groups, members, permutations, rng),
        "lifts": _lifts(found, infos, partitions, draws, permutations, rng),
    }


def _cosines(
    cell: Cell, products: np.ndarray, apart: np.ndarray, belongs: np.ndarray, draws: np.ndarray
) -> dict[str, Any]:
    """Return cosines of a cell's vectors, with intervals; None for vectors whose classes share no parameter."""
    sizes = belongs.sum(1)
    separate = apart >= np.outer(sizes, sizes)
    cosines = np.where(separate, np.nan, al.cosines(al.split_products(products)))
    drawn = np.stack([al.cosines(al.split_products(products, counts)) for counts in draws])
    low, high = al.percentiles(np.where(separate, np.nan, drawn))
    numbers = {"cosine": cosines, "low": low, "high": high, "ceiling": al.ceilings(products), "apart": separate}
    return {"kind": cell.kind, "level": cell.level} | {name: plain(each) for name, each in numbers.items()}


def _tests(
    found: Sequence[Cell], groups: Sequence[str], members: np.ndarray, permutations: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Test whether pairs of groups are less aligned than by chance, under both null hypotheses.

    Cells in which some classes share no parameter are not tested: there the answer follows from the routing. A
    permutation is the same in all cells, since an image is in all of them.
    """
    pairs = list(itertools.combinations(range(len(groups)), 2))
    tests: list[dict[str, Any]] = []
    if not pairs:
        return tests
    rows, columns = (list(each) for each in zip(*pairs, strict=True))

    def statistic(weights: np.ndarray) -> np.ndarray:
        return np.stack([al.mean_cosines(cell.gram, weights)[rows, columns] for cell in found])

    testable = np.array([not cell.apart.any() for cell in found])[:, None]
    observed = np.where(testable, statistic(members), np.nan)  # (cells, pairs)
    for name, permute in NULLS.items():
        null = np.stack([statistic(permute(members, rng)) for _ in range(permutations)])
        p, corrected = al.less_than(observed, null)
        tested = testable & np.isfinite(corrected)
        least = [
            float(column[of].min()) if of.any() else None for column, of in zip(corrected.T, tested.T, strict=True)
        ]
        numbers = plain(np.stack([observed, null.mean(0), p, corrected], 2))  # (cells, pairs, 4)
        for number, (pair, over_pairs) in enumerate(zip(pairs, holm(least), strict=True)):
            test = {"null": name, "groups": [groups[index] for index in pair], "permutations": permutations}
            in_cells = [
                {"kind": cell.kind, "level": cell.level} | dict(zip(MEASURED, row[number], strict=True))
                for cell, row in zip(found, numbers, strict=True)
            ]
            tests.append(test | {"p_any": plain(least[number]), "p_holm": plain(over_pairs), "cells": in_cells})
    return tests


def _lifts(
    found: Sequence[Cell],
    infos: Sequence[ClassInfo],
    partitions: Mapping[str, Mapping[str, int]],
    draws: np.ndarray,
    permutations: int,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Return how far every partition raises alignment, by kind of layer over all noise levels."""
    lifts = []
    for kind in dict.fromkeys(cell.kind for cell in found):
        own = [cell for cell in found if cell.kind == kind]
        if any(cell.apart.any() for cell in own):
            continue
        products = np.stack([al.split_products(cell.gram) for cell in own])
        resampled = np.stack([[al.split_products(cell.gram, counts) for cell in own] for counts in draws])
        for name, clusters in partitions.items():
            served = np.array([clusters[info.name] for info in infos])
            numbers = al.lift(products, resampled, served, permutations, rng)
            lifts.append({"partition": name, "kind": kind} | {key: plain(value) for key, value in numbers.items()})
    return lifts


def plain(values: Any) -> Any:
    """Return numbers for JSON, to six digits; None for None and for numbers that are not finite."""
    if values is None:
        return None
    if isinstance(values, np.ndarray) and values.ndim:
        return [plain(each) for each in values]
    if isinstance(values, bool | int | np.bool_ | np.integer):
        return values.item() if isinstance(values, np.generic) else values
    return float(f"{float(values):.6g}") if np.isfinite(values) else None
