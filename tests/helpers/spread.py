"""Pairs of a family and a method or a guidance that are tried where trying all of them takes too long."""

from __future__ import annotations

from collections.abc import Collection, Sequence

APART = 2
"""Places between a name's own in its list and its family's, by which each is tried where it applies."""


def spread(families: Sequence[str], names: Sequence[str], everywhere: Collection[str]) -> list[tuple[str, str]]:
    """Return pairs of a family and a name: those of ``everywhere`` on every family, each other one on one."""
    return [
        (family, name)
        for place, family in enumerate(families)
        for number, name in enumerate(names)
        if name in everywhere or (number - place) % len(families) == APART
    ]
