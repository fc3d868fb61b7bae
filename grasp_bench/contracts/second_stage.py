"""The contract of a training in two stages, of which the second draws other images and trains fewer parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class SecondStage:
    """What the last steps of a training do differently."""

    start: int
    """The first step of the second stage, counted from 0."""
    sample_weights: np.ndarray | None
    """How often an image of each class is drawn then, (classes,); None: all images alike."""
    trains: Callable[[str], bool]
    """Whether the parameter of a name goes on training; the others keep their value and state."""
