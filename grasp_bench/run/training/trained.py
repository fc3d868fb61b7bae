"""What a method trains, in words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable


def summary(names: Iterable[str]) -> str:
    """Names of parameters with their numbers left open and how many there are of each.

    ``blocks.0.ff.up.0`` and ``blocks.1.ff.up.0`` are ``blocks.*.ff.up.* (2)``.
    """
    found = Counter(re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name) for name in names)
    return ", ".join(f"{name} ({count})" for name, count in found.items())
