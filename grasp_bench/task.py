"""The contract of a task: data, classes, prompts, budget. It owns whatever must be the same for every method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from pydantic import Field

from grasp_bench.settings import Settings
from grasp_bench.spec import Budget

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class ClassInfo:
    """One class: its name, prompt, reporting group and number of training images."""

    name: str
    prompt: str
    group: str
    train_count: int


@dataclass(frozen=True)
class Split:
    """Images with labels and prompts: ``labels`` (n,) are class indices, ``read(indices)`` gives uint8 (k, C, H, W)."""

    ids: list[str]
    labels: np.ndarray
    prompts: list[str]
    read: Callable[[np.ndarray], np.ndarray] = field(repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def all_images(self) -> np.ndarray:
        """Every image of the split: uint8 (n, C, H, W)."""
        import numpy as np

        return self.read(np.arange(len(self)))


@dataclass(frozen=True)
class Dataset:
    """The disjoint parts of a task's data."""

    train: Split
    """Long-tailed; what methods are fine-tuned on."""
    validation: Split
    """For choosing hyper-parameters, and nothing else."""
    test: Split
    """What generated images and classifiers are scored against, and nothing else."""
    pool: Split | None = None
    """Held out from all of the above, to train an extractor on."""


@dataclass(frozen=True)
class ClassifierRecipe:
    """How the downstream classifier is trained: the same for every method and every mixture of data."""

    epochs: int
    batch_size: int
    learning_rate: float


class TaskSettings(Settings):
    """Settings every task has; a task adds its own."""

    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Decay a step of the running mean of the trained parameters that images are sampled from; none: off"""


C_co = TypeVar("C_co", bound=TaskSettings, covariant=True)


class Task(Generic[C_co]):
    """What methods are compared on.

    Modules of subclasses import heavy packages inside functions only, so that listing them stays quick.
    """

    Config: ClassVar[type[TaskSettings]] = TaskSettings
    version: ClassVar[str]
    """Changing a split, a prompt or a budget bumps it."""
    source: ClassVar[str]
    """Where the data comes from, its licence and how to cite it."""
    groups: ClassVar[tuple[str, ...]] = ("head", "medium", "tail")
    backbone: ClassVar[str]
    """The default backbone's name."""
    guidance: ClassVar[str]
    """The default guidance's name."""
    extractor: ClassVar[str]
    """Name of the feature extractor behind distances and diversity."""
    classifier: ClassVar[ClassifierRecipe]
    budgets: ClassVar[dict[str, Budget]]
    """By name; "standard" is the leaderboard's, "smoke" shows within seconds that everything runs."""

    def __init__(self, config: C_co) -> None:
        self.config = config

    def classes(self) -> list[ClassInfo]:
        """The classes in the order of their indices."""
        raise NotImplementedError

    def prepare(self, folder: Path) -> None:
        """Write into ``folder`` whatever :meth:`open` reads; called once, the result is cached."""
        raise NotImplementedError

    def open(self, folder: Path) -> Dataset:
        """The data that :meth:`prepare` left in ``folder``."""
        raise NotImplementedError

    def class_groups(self) -> np.ndarray:
        """The group's name of every class: (classes,)."""
        import numpy as np

        return np.array([info.group for info in self.classes()])

    def group_indices(self) -> np.ndarray:
        """Index into ``groups`` of every class: (classes,)."""
        import numpy as np

        return np.array([self.groups.index(info.group) for info in self.classes()])
