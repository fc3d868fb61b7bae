"""The metrics that a task declares in advance to decide between methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Primary:
    """A metric by which a task's methods are compared, declared before any run: its mean over a group's classes."""

    metric: str
    """Name of the metric, such as "fd"."""
    group: str
    """Group of the task's classes whose mean counts (scope "class mean"), or "all"."""
    scale: Literal["linear", "log"] = "linear"
    """Scale on which values are averaged and tested: "log" for a distance, whose spread grows with its size."""


TAIL_FIDELITY_AND_COVERAGE = (Primary("fd", "tail", "log"), Primary("coverage", "tail"))
"""The primary metrics of a task that declares no others."""
