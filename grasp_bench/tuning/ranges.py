"""Which settings of a method are searched, and the values that each trial has."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from grasp_bench import seeds
from grasp_bench.contracts.recipe import Rate
from grasp_bench.contracts.settings import Settings, Tuned

NONE: Mapping[str, Rate] = MappingProxyType({})


def tuned_ranges(model: type[Settings], recipe: Mapping[str, Rate] = NONE) -> dict[str, Tuned]:
    """Return setting → its range, in the order of declaration; subclasses that declare none inherit it.

    A range that the backbone's ``recipe`` has for a searched setting takes the place of the declared one.
    """
    found = {}
    for name in model.model_fields:
        declared = (kind.model_fields.get(name) for kind in model.__mro__ if issubclass(kind, Settings))
        marks = [mark for field in declared if field for mark in field.metadata if isinstance(mark, Tuned)]
        if marks:
            found[name] = Tuned(recipe[name].low, recipe[name].high, log=True) if name in recipe else marks[0]
    return found


def candidate(model: type[Settings], number: int, task: str, recipe: Mapping[str, Rate] = NONE) -> dict[str, float]:
    """Return the searched settings of a trial: trial 0 has the defaults, the others follow a quasi-random sequence.

    Defaults and ranges are those of the backbone's ``recipe`` where it has any.

    A trial is a function of its number, the ranges and the task, so more trials extend a search. The sequence is
    Halton's (1960) with scrambled digits (Owen 2017, arXiv 1706.02808, as scipy has it): it has no favourite length,
    and its first dimensions do not depend on how many there are, so methods share the learning rates that they try.
    Values have three significant digits.
    """
    ranges = tuned_ranges(model, recipe)
    if number == 0:
        defaults = {name: rate.value for name, rate in recipe.items()}
        return {name: defaults.get(name, model.model_fields[name].default) for name in ranges}
    shares = dict(zip(ranges, point(number - 1, len(ranges), task), strict=True))
    return {name: _value(ranges[name], shares[name], is_whole(model, name)) for name in ranges}


def is_whole(model: type[Settings], name: str) -> bool:
    """Return whether a setting is a whole number."""
    return model.model_fields[name].annotation is int


def rounded(value: float, searched: Tuned, whole: bool) -> float:
    """Return a value inside the range, rounded to three significant digits or, if ``whole``, to a whole number."""
    inside = min(max(value, searched.low), searched.high)
    return round(inside) if whole else min(max(float(f"{inside:.3g}"), searched.low), searched.high)


def point(index: int, dimensions: int, task: str) -> list[float]:
    """Return member ``index`` of the task's sequence: (dimensions,) in [0, 1)."""
    from scipy.stats import qmc

    sequence = qmc.Halton(dimensions, seed=seeds.rng("tune", task)).fast_forward(index)
    return [float(coordinate) for coordinate in sequence.random(1)[0]]


def _value(searched: Tuned, share: float, whole: bool) -> float:
    """Return where ``share`` of [0, 1) lies in the range; a whole number stands for all that rounds to it."""
    half = 0.5 if whole else 0.0
    low, high = searched.low - half, searched.high + half
    value = low * (high / low) ** share if searched.log else low + (high - low) * share
    return rounded(value, searched, whole)
