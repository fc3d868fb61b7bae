"""The contract of a task: data, classes, prompts, budget. It owns whatever must be the same for every method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, Literal, TypeVar

from pydantic import Field, JsonValue, field_validator

from grasp_bench.contracts.primary import TAIL_FIDELITY_AND_COVERAGE, Primary
from grasp_bench.contracts.settings import Settings
from grasp_bench.contracts.spec import Budget, Optimizer, Precision
from grasp_bench.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from grasp_bench.contracts.progress import Progress


class MissingDataError(Exception):
    """Raised where a task needs its data and was made without the folder of it."""


GROUPS = ("head", "medium", "tail")
ClassOf = Literal["rarest", "commonest", "drawn"]
"""Which of an image's labels is its class: of the fewest or most training images, or drawn evenly by its id."""
LabelSets = Literal["focus", "natural"]
"""How label sets are drawn for generated images: as many with each label in focus, or as they occur in training."""


@dataclass(frozen=True)
class ClassifierRecipe:
    """Everything that decides a downstream classifier but its data and its seed: the same for every method."""

    epochs: int
    batch_size: int
    learning_rate: float
    """Peak of AdamW's, which falls to zero along a cosine."""
    network: str = "small-cnn"
    """small-cnn, or timm:<model>."""
    weight_decay: float = 0.01
    augmentation: tuple[Literal["flip", "crop", "rotate"], ...] = ()
    """Horizontal flips, crops of the image padded by an eighth, rotations by up to 10 degrees."""
    class_weights: Literal["none", "balanced"] = "none"
    """"balanced" weights the loss of each image by the inverse of its class's number of images; where images may have
    several labels, that of an image which has a label by how many have not for each that has."""
    patience: int | None = None
    """Epochs without a better balanced accuracy, or mean average precision of labels, on validation images before
    training ends; the best epoch's weights are kept then. Without it the last epoch's are."""
    seeds: int = 1
    """Classifiers trained, whose scores are averaged."""
    resolution: int | None = None
    """Pixels a side that images are resized to; as they come if absent."""
    initial: str | None = None
    """timm's tag of the weights that the network starts from, such as ra_in1k; from scratch if absent."""


@dataclass(frozen=True)
class ClassInfo:
    """One class: its name, prompt, reporting group and number of training images that have it."""

    name: str
    prompt: str
    group: str
    train_count: int
    healthy: bool = False
    """Whether its images show that the findings of the other classes are absent, as "No Finding" does."""


@dataclass(frozen=True)
class Split:
    """Images with labels and prompts: ``labels`` (n,) are class indices, ``read(indices)`` gives uint8 (k, C, H, W).

    Where an image may have several labels, ``sets`` has all of them, and ``labels`` is the one by which methods, groups
    of a step and resampling see it, which the task's ``class_of`` chooses; for generated images, the label in focus.
    """

    ids: list[str]
    labels: np.ndarray
    prompts: list[str]
    read: Callable[[np.ndarray], np.ndarray] = field(repr=False)
    patients: np.ndarray | None = field(default=None, repr=False)
    """The patient of each image, (n,), where that is known: intervals then resample patients."""
    metadata: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    """Further columns of the task: name → one string per image, (n,)."""
    sets: np.ndarray | None = field(default=None, repr=False)
    """Which labels each image has, bool (n, classes), of a task whose images may have several; else None."""

    @property
    def truth(self) -> np.ndarray:
        """All that each image shows: ``sets`` where there are such, else ``labels``."""
        return self.labels if self.sets is None else self.sets

    def __len__(self) -> int:
        return len(self.ids)

    def all_images(self) -> np.ndarray:
        """Every image of the split: uint8 (n, C, H, W)."""
        import numpy as np

        return self.read(np.arange(len(self)))


def membership(truth: np.ndarray, classes: int) -> np.ndarray:
    """Which labels each image has, bool (n, classes), from class indices (n,) or from such a matrix itself."""
    import numpy as np

    return truth if truth.ndim == 2 else truth[:, None] == np.arange(classes)


@dataclass(frozen=True)
class Dataset:
    """The disjoint parts of a task's data."""

    train: Split
    """The long-tailed images that methods are fine-tuned on."""
    validation: Split
    """Images for choosing hyper-parameters, and for nothing else."""
    test: Split
    """Images that generated ones and classifiers are scored on, and for nothing else."""
    pool: Split | None = None
    """Images in none of the other parts, to train a feature extractor on."""
    balanced_test: Split | None = None
    """A subset of the test set with equally many images per class, on which classifiers are scored too."""


class TaskSettings(Settings):
    """Settings that every task has; a task may add its own."""

    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Decay per step of the running mean of the trainable parameters, from which images are sampled, at most
    (1 + n) / (10 + n) after n steps; none: off"""
    extractor: str | None = None
    """Feature extractors of distances and diversity scores, several separated by commas; none: the task's own"""
    network: str | None = None
    """Network of the downstream classifier, small-cnn or timm:<model>; none: the task's own"""
    network_weights: str | None = None
    """Tag of timm's weights that the classifier starts from, such as ra_in1k, of a file in $GRASP_BENCH_WEIGHTS, or
    scratch; if absent, the task's own where their file is there, and else scratch"""
    horizontal_flip: bool = False
    """Mirror every training image with probability one half; not for images where left and right matter"""
    precision: Precision = "float32"
    """Precision of the transformer: float32, or bfloat16 autocast with frozen weights stored in bfloat16"""
    optimizer: Optimizer = "adamw"
    """Implementation of AdamW: adamw, adamw-fused (the same, quicker on a GPU) or adamw-8bit (needs bitsandbytes)"""
    evaluations: int | None = Field(default=None, ge=1)
    """Most network function evaluations (NFE) per image: each guidance takes as many sampling steps as they allow,
    instead of num_inference_steps"""

    added: ClassVar[frozenset[str]] = frozenset(
        {"horizontal_flip", "precision", "optimizer", "evaluations", "network_weights"}
    )

    @field_validator("network_weights", mode="before")
    @classmethod
    def _from_scratch(cls, given: object) -> object:
        return None if given == "scratch" else given

    @field_validator("extractor", mode="before")
    @classmethod
    def _joined(cls, given: object) -> object:
        """A list of extractors, or names separated by commas, as names separated by single commas."""
        if isinstance(given, str):
            given = given.split(",")
        if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
            return given
        names = [each.strip() for each in given]
        if not all(names) or len(set(names)) < len(names):
            raise ValueError("expected names of extractors, each once")
        return ",".join(names)


C_co = TypeVar("C_co", bound=TaskSettings, covariant=True)


class Task(Generic[C_co]):
    """Data, prompts, budgets and scoring on which methods are compared.

    Modules of subclasses import heavy packages inside functions only, so that listing them stays quick. An instance may
    replace what its class declares, where its settings say so.
    """

    Config: ClassVar[type[TaskSettings]] = TaskSettings
    version: ClassVar[str]
    """The version, raised by whoever changes a split, a prompt or a budget."""
    source: ClassVar[str]
    """The origin of the data, its licence and how to cite it."""
    layout: ClassVar[str] = ""
    """The folder tree of the download; empty for a task that needs none."""
    described_by_file: ClassVar[bool] = False
    """Whether the task is chosen by the path of a TOML file rather than by its name."""
    downloads: ClassVar[bool] = False
    """Whether :meth:`download` can fetch the data."""
    reads_files: ClassVar[bool] = False
    """Whether its images are files that take long to decode: classifiers then read them from a cache."""
    primary: ClassVar[tuple[Primary, ...]] = TAIL_FIDELITY_AND_COVERAGE
    """The metrics that decide between methods, declared in advance; whatever else is measured is secondary."""
    whole_test: bool = False
    """Whether conventional metrics are measured over the whole test set, too, beside groups at equal counts."""
    private: bool = False
    """Whether names of images and patients must not leave the data: messages that may name them are then not stored."""
    multilabel: bool = False
    """Whether an image may have several labels: counts, groups and scores are then those of labels."""
    label_separator: str = "|"
    """What stands between the labels of an image in a file of labels, where it may have several."""
    class_of: ClassOf = "rarest"
    """Which of an image's labels is its class, by which methods route, weight and compare samples."""
    label_sets: LabelSets = "focus"
    """How label sets are drawn for generated images: with each label in focus, from the training images that have it,
    or as they occur."""
    backbone: str
    """The default backbone's name."""
    second_backbone: ClassVar[str] = ""
    """Name of the backbone of the task's second track; empty for a task without one."""
    network_weights: str | None = None
    """timm's tag of the weights that classifiers start from where their file is there; None: from scratch."""
    resolution: int | None = None
    """Pixels a side of images where the backbone has a choice that includes them; None: the backbone's native ones."""
    guidance: str
    """The default guidance's name."""
    extractors: tuple[str, ...]
    """Names of the feature extractors of distances and diversity scores; the first is the one that settings are chosen
    by and copies are looked for in."""
    classifier: ClassifierRecipe
    """The recipe of downstream classifiers: equal for every method and every mixture of data."""
    budgets: dict[str, Budget]
    """Budgets by name; "standard" is the leaderboard's, "smoke" shows within seconds that everything runs."""

    def __init__(self, config: C_co, root: Path | None = None) -> None:
        self.config, self.root = config, root
        if config.extractor:
            self.extractors = tuple(config.extractor.split(","))
        if config.network:
            self.classifier = replace(self.classifier, network=config.network)
        if config.network_weights:
            self.classifier = replace(self.classifier, initial=config.network_weights)

    @property
    def generator(self) -> str | None:
        """The task whose data methods are fine-tuned on, where it is another than this."""
        return None

    def generator_classes(self, generator: Task[TaskSettings]) -> list[int]:
        """The index of the generator's class that stands for each class of this task."""
        raise NotImplementedError

    def for_seed(self, seed: int) -> Task[TaskSettings]:
        """The task as a run of this seed has it: a task may let the seed draw its split, or which classes are rare.

        Settings and identity stay, so that all seeds belong to one row of a table; what was drawn is in :meth:`drawn`.
        """
        return self

    def drawn(self) -> dict[str, JsonValue]:
        """What the seed drew that decides the data, by name; empty where nothing depends on the seed."""
        return {}

    def identity(self) -> dict[str, JsonValue]:
        """Settings and facts of the data that scores depend on; no paths."""
        return self.config.model_dump(mode="json")

    def changed(self) -> dict[str, JsonValue]:
        """Settings that differ from the task's defaults, as in the name of its results' folder."""
        return self.config.changed()

    @property
    def data(self) -> Path:
        """The folder of the download, of a task with a ``layout``."""
        if self.root is None:
            raise MissingDataError("this task was made without the folder of its data")
        return self.root

    def classes(self) -> list[ClassInfo]:
        """The classes in the order of their indices."""
        raise NotImplementedError

    def train_images(self) -> int:
        """The number of training images: the sum of the classes', unless an image may have several labels."""
        return sum(info.train_count for info in self.classes())

    def most_prompts(self) -> int:
        """The most different prompts that training images and classes may have, the null condition among them.

        Those of the classes and, where an image may have several labels, one for each set of labels. A task whose
        images have prompts of their own counts these, too.
        """
        classes = len(self.classes())
        return 1 + classes + (min(self.train_images(), 2**classes) if self.multilabel else 0)

    def outline(self) -> list[ClassInfo]:
        """The classes as far as they are published: what an estimate goes by where :meth:`classes` needs the data.

        Names and prompts may be stand-ins.
        """
        return self.classes()

    def download(self) -> None:
        """Fetch the data from its publisher into its folder; only ever called when the user allows it."""
        raise NotImplementedError

    def check(self, progress: Progress) -> int:
        """The number of images in the download, if it is whole; reads no image further than its header.

        Raises :class:`UserError` with everything that is wrong.
        """
        raise UserError("this task comes with its data: there is nothing to check.")

    def prepare(self, folder: Path, progress: Progress) -> None:
        """Write into ``folder`` whatever :meth:`open` reads; called once, the result is cached.

        Raises :class:`UserError` with everything that is wrong with the download.
        """
        raise NotImplementedError

    def cache(self, folder: Path, shape: tuple[int, int, int], progress: Progress) -> None:
        """Keep the images as ``shape`` (C, H, W) beside what :meth:`prepare` wrote, so that reading them is quick."""
        raise UserError("this task's images are quick to read as they are: it keeps no cache of them.")

    def open(self, folder: Path, shape: tuple[int, int, int]) -> Dataset:
        """The data that :meth:`prepare` wrote into ``folder``, as images of ``shape`` (C, H, W)."""
        raise NotImplementedError

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that have classes: head, medium and tail, then others in the order of their first class."""
        present = dict.fromkeys(info.group for info in self.classes())
        return (*(group for group in GROUPS if group in present), *(group for group in present if group not in GROUPS))

    def class_groups(self) -> np.ndarray:
        """The name of each class's group: (classes,)."""
        import numpy as np

        return np.array([info.group for info in self.classes()])

    def group_indices(self) -> np.ndarray:
        """The index of each class's group in ``groups``: (classes,)."""
        import numpy as np

        position = {group: index for index, group in enumerate(self.groups)}
        return np.array([position[info.group] for info in self.classes()])
