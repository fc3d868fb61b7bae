"""The contract of a feature extractor: images in, one vector per image out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self, TypeVar

from grasp_bench.errors import UserError
from grasp_bench.io import write_json

if TYPE_CHECKING:
    import numpy as np

    from grasp_bench.contracts.task import Dataset

IDENTITY = "identity.json"
MOST = 4
"""The most extractors of one run."""


class Extractor:
    """A function from images to features; its name labels every distance that is measured with it."""

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


class PretrainedExtractor(Extractor):
    """An extractor whose weights are there before any task: it serves images from anywhere.

    Where a task names one, nothing is built, and the weights must not change later.
    """

    argument: ClassVar[str] = ""
    """What follows the name and a colon, as in ``timm:<model>``; empty where nothing does."""
    identity: dict[str, str]
    """Whatever its numbers depend on: ``extractor`` (its name with the argument, where that is no path), ``version``,
    ``weights`` (sha256, or "none"), ``resize``, ``normalisation`` and ``features``. No paths."""

    @classmethod
    def from_weights(cls, weights: Path | None, argument: str = "") -> Self:
        """The extractor with the weights of a file, or of the place where it looks for them by itself.

        Nothing is downloaded. Raises :class:`UserError` saying which file is missing, where it was looked for and how
        to get it.
        """
        raise NotImplementedError

    def features(self, images: Iterable[np.ndarray], batch_size: int = 64) -> np.ndarray:
        """Images of any sizes, each uint8 (1 | 3, H, W), to float64 (n, d), whatever the batch size."""
        raise NotImplementedError

    def to(self, device: str) -> Self:
        """Move the extractor to ``device``, where it has anything to move, and return it."""
        return self

    @classmethod
    def build(cls, data: Dataset, classes: int, folder: Path) -> None:
        write_json(folder / IDENTITY, cls.from_weights(None).identity)

    @classmethod
    def load(cls, folder: Path) -> Self:
        return unchanged(cls.from_weights(None), folder)


E = TypeVar("E", bound=PretrainedExtractor)


def unchanged(extractor: E, folder: Path) -> E:
    """Return the extractor if it is the one whose identity is in ``folder``. Raises :class:`UserError` otherwise."""
    built = json.loads((folder / IDENTITY).read_text())
    if changed := [key for key, value in extractor.identity.items() if built.get(key) != value]:
        raise UserError(
            f"{folder / IDENTITY}: the extractor {extractor.identity['extractor']} has changed since "
            f"({', '.join(changed)}). Put the former weights back, or remove {folder} to score again."
        )
    return extractor


@dataclass(frozen=True)
class ChosenExtractor:
    """An extractor as a task names it: a class, with the argument that some of them take."""

    name: str
    """What a user writes, such as ``inception`` or ``hf:microsoft/rad-dino``."""
    kind: type[Extractor]
    argument: str = ""

    @property
    def label(self) -> str:
        """What titles call it: the name, or the last part of the argument, as in ``rad-dino``."""
        return extractor_label(self.name)

    @property
    def pretrained(self) -> type[PretrainedExtractor] | None:
        """The class, if its weights are there before any task."""
        own = self.kind.build.__func__ is not PretrainedExtractor.build.__func__  # type: ignore[attr-defined]
        return None if own or not issubclass(self.kind, PretrainedExtractor) else self.kind

    def check(self) -> None:
        """Raise :class:`UserError` where weights that are not a task's are missing; images are not looked at."""
        if self.pretrained:
            self.pretrained.from_weights(None, self.argument)

    def build(self, data: Dataset, classes: int, folder: Path) -> None:
        """Write into ``folder`` what :meth:`load` reads."""
        if self.argument and self.pretrained:
            write_json(folder / IDENTITY, self.pretrained.from_weights(None, self.argument).identity)
        else:
            self.kind.build(data, classes, folder)

    def load(self, folder: Path) -> Extractor:
        """Return the extractor that :meth:`build` left in ``folder``. Raises :class:`UserError` where it changed."""
        if self.argument and self.pretrained:
            return unchanged(self.pretrained.from_weights(None, self.argument), folder)
        return self.kind.load(folder)


def extractor_label(name: str) -> str:
    """What titles call an extractor that a user names: the last part of its argument, or the name itself."""
    return name.partition(":")[2].rstrip("/").rpartition("/")[2] or name
