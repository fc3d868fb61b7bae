"""The file that describes a sweep: its methods, tasks and settings, and how it is carried out."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError
from pydantic_core import ErrorDetails

from grasp_bench.bounds import LARGEST_INTEGER, is_count
from grasp_bench.contracts.settings import Settings
from grasp_bench.contracts.spec import STANDARD
from grasp_bench.documents import read_toml
from grasp_bench.errors import UserError, did_you_mean, fault_told
from grasp_bench.home import with_home


def _values(found: Any) -> list[str]:
    """Return a value or a list of values as strings, as the command line has them in ``NAME=VALUE``."""
    values = found if isinstance(found, list) else [found]
    if not values or not all(isinstance(value, str | int | float) for value in values):
        raise ValueError("expected a string, number or truth value, or a list of them with at least one")
    spelt = [str(value).lower() if isinstance(value, bool) else str(value) for value in values]
    if twice := [value for value in spelt if spelt.count(value) > 1]:
        raise ValueError(f"{twice[0]} is listed twice")
    return spelt


Values = Annotated[list[str], BeforeValidator(_values)]
Grid = dict[str, Values]
"""Setting → the values to try."""


class Exclude(Settings):
    """Cells that are left out: those that match every key that is given."""

    method: Values | None = None
    task: Values | None = None
    seed: Values | None = None
    guidance: Values | None = None
    backbone: Values | None = None
    set: Grid = Field(default_factory=dict)
    task_set: Grid = Field(default_factory=dict)
    guidance_set: Grid = Field(default_factory=dict)


Place = Annotated[Path, AfterValidator(with_home)]
"""A path in which ``~`` stands for the user's home folder, and ``~name`` for another user's."""


class Execution(Settings):
    """How every cell is carried out: the options of `grasp-bench run` that change no score."""

    results: Place = Path("results")
    """Folder of the records"""
    work_dir: Place = Path(".grasp-bench")
    """Folder of stages, checkpoints and the sweep's logs"""
    cache_dir: Place | None = None
    """Folder of caches that may vanish, such as one on a node's own disk; the work folder if absent"""
    sync_to: Place | None = None
    """Folder of copies of stages and checkpoints, for a work folder that may vanish"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of every run; which of several GPUs is up to the launcher"""
    batch_size: int = Field(default=100, ge=1)
    """Number of images that are generated at a time"""
    log_every: int = Field(default=50, ge=1)
    """Training steps between two rows of the log"""
    checkpoint_minutes: float = Field(default=10, ge=0)
    """Minutes between checkpoints; with 0, every row of the log comes with one"""
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Whether training takes longer and needs less memory; auto: where a step does not fit on the GPU otherwise"""
    accumulate: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Number of parts in which the batch of a training step is processed; auto: the fewest that fit on the GPU"""
    processes: Annotated[int, Field(ge=1)] | None = None
    """Number of processes that share each cell, with one GPU each; a job of a cluster must have as many"""
    shard: bool = False
    """Whether the pretrained weights are sharded over the processes"""
    compile: bool = False
    """Whether the transformer is compiled for training"""
    data_root: dict[str, Place] = Field(default_factory=dict)
    """Task → folder of its download"""

    @property
    def kept(self) -> Path:
        """Folder of what must not vanish: checkpoints, and the sweep's logs and jobs."""
        return self.sync_to or self.work_dir


class SweepConfig(Settings):
    """What the TOML file of a sweep says; paths are relative to where the command is given, as those of `run` are.

    ``~`` stands for the home folder wherever one begins with it.
    """

    methods: Values
    tasks: Values
    """Names of tasks, or TOML files that describe one"""
    seeds: Values
    guidances: Values | None = None
    """Names of guidances; each task's default if absent"""
    backbones: Values | None = None
    """Names of backbones; each task's default if absent"""
    resolution: int | None = Field(default=None, ge=1)
    """Pixels a side of the images, as `run --resolution` takes it; the task's or the backbone's own if absent"""
    budget: str = STANDARD
    """Name of a budget, or a TOML file that describes one, as `run --budget` takes it"""
    evaluations: Values = Field(default_factory=list)
    """Most network evaluations per image, as `run --evaluations` takes them; each value makes a table of its own"""
    tuned: bool = False
    """Whether methods have the settings that `grasp-bench tune` found, as with `run --tuned`"""
    tuned_guidances: bool = False
    """Whether guidances have the settings that `grasp-bench tune --guidance` found with the method of the cell; those
    in `guidance_set` stay, and with `tuned` the task's own guidance has the scale of the method's search"""
    set: dict[str, Grid] = Field(default_factory=dict)
    """Method → its settings, each with one value or several"""
    task_set: dict[str, Grid] = Field(default_factory=dict)
    """Task → its settings, each with one value or several"""
    guidance_set: dict[str, Grid] = Field(default_factory=dict)
    """Guidance → its settings, each with one value or several"""
    exclude: list[Exclude] = Field(default_factory=list)
    options: Execution = Execution()
    slurm: dict[str, Any] = Field(default_factory=dict)
    """Parameters of submitit's AutoExecutor, such as timeout_min and slurm_partition"""


def read_config(path: Path) -> SweepConfig:
    """Read the TOML file of a sweep. Raises :class:`UserError` that names the file and each key that is wrong."""
    content = with_home(read_toml(path, "Name the TOML file of a sweep."))
    try:
        config = SweepConfig.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: {'; '.join(_problem(each) for each in error.errors())}.") from error
    _check_seeds(path, config)
    for key, owners, known in (
        ("set", config.set, config.methods),
        ("task_set", config.task_set, config.tasks),
        ("guidance_set", config.guidance_set, config.guidances or []),
        ("options.data_root", config.options.data_root, config.tasks),
    ):
        _check_owners(path, key, owners, known)
    return config


def _check_seeds(path: Path, config: SweepConfig) -> None:
    for seed in config.seeds:
        if not is_count(seed):
            raise UserError(f"{path}: seeds: {seed!r} is no seed. Expected whole numbers from 0 to {LARGEST_INTEGER}.")


def _check_owners(path: Path, key: str, owners: Collection[str], known: list[str]) -> None:
    """Raise :class:`UserError` for settings of what the sweep does not name, which would have no effect."""
    plural = {"set": "methods", "guidance_set": "guidances"}.get(key, "tasks")
    for owner in owners:
        if owner not in known:
            there = ", ".join(known) or "none"
            raise UserError(
                f"{path}: {key}.{owner}: {owner!r} is not among the {plural} of this sweep ({there})."
                f"{did_you_mean(owner, known)} Add it to `{plural}`, or remove its settings."
            )


def _problem(error: ErrorDetails) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _model_at(error["loc"]).model_fields
        hint = did_you_mean(str(error["loc"][-1]), known)
        return f"{where}: there is no such key.{hint} There are: {', '.join(known)}"
    if error["type"] == "missing":
        return f"{where}: is missing; a sweep needs methods, tasks and seeds, each a list"
    return fault_told(error, value=True)


def _model_at(location: tuple[int | str, ...]) -> type[BaseModel]:
    """Return the model that an unknown key was given to."""
    nested: dict[int | str, type[BaseModel]] = {"options": Execution, "exclude": Exclude}
    return nested[location[0]] if len(location) > 1 else SweepConfig
