"""The contract of a feature extractor: images in, one vector an image out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    import numpy as np

    from grasp_bench.task import Dataset


class Extractor:
    """Turns images into features; its name labels every distance that is measured with it."""

    version: ClassVar[str]

    @classmethod
    def build(cls, data: Dataset, classes: int, folder: Path) -> None:
        """Write into ``folder`` what :meth:`load` reads; called once, the result is cached."""
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The extractor that :meth:`build` left in ``folder``."""
        raise NotImplementedError

    def features(self, images: np.ndarray) -> np.ndarray:
        """uint8 (n, C, H, W) → float64 (n, d)."""
        raise NotImplementedError
