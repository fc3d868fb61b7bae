"""What happened: the record of a run, one JSON file that holds every number a table shows."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from grasp_bench.contracts.spec import RunSpec
from grasp_bench.errors import UserError
from grasp_bench.io import write_json

RECORD_NAME = "record.json"

Status = Literal["finished", "failed", "oom", "cancelled", "skipped"]


class Part(BaseModel):
    """Base of the record's parts: unknown fields and NaN are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Interval(Part):
    """The 2.5th and 97.5th percentile over what was redrawn."""

    low: float
    high: float
    unit: Literal["image", "equal-count draw", "patient", "seed"]
    """What was redrawn; "equal-count draw": the subsets of images that are compared, once for each draw."""
    units: int = Field(ge=2)
    """How many of them."""


class Metric(Part):
    """One score of one group."""

    name: str
    """Key, such as "fd" or "accuracy_generated"."""
    label: str
    """What a table calls it, such as "FD(digits-cnn)"."""
    group: str
    """A group of the task, or "all"."""
    scope: Literal["group", "class mean", "worst class"] = "group"
    """Of the group's images together, the mean over its classes, or its worst class."""
    value: float | None
    """None where there are too few images."""
    direction: Literal["lower", "higher"]
    """Which way is better."""
    n: int = Field(ge=0)
    """Images the value rests on (of each kind, where two sets are compared); without a value, as many as there are."""
    interval: Interval | None = None
    floor: float | None = None
    """What real images score against held-out real images, at the same count."""
    worst: str | None = None
    """Name of the worst class."""


class Cost(Part):
    """What the run spent."""

    trainable_parameters: int
    total_parameters: int
    """Of the backbone and what the method adds."""
    train_seconds: float
    seconds_per_step: float
    peak_memory_mib: float
    """Peak while training: of the GPU's allocations, or of the whole process on a CPU."""
    checkpoint_mib: float
    """Size of the trained weights."""
    generate_seconds: float
    network_evaluations_per_image: float
    """Passes forward of a sample through a network."""
    backward_passes_per_image: float | None = None
    """Of them those that a gradient went back through; none in records of before, as in the two below."""
    gflops_per_image: float | None = None
    """Billions of floating-point operations, forward and backward, a product with its sum counted as two; classifiers
    of a guidance and the decoder included. Counted in the first batch, times the evaluations of all images over its."""
    generate_peak_memory_mib: float | None = None
    """Peak while generating, as that while training."""


class Environment(Part):
    """Where the run was made."""

    versions: dict[str, str]
    """Python and the packages that decide numbers."""
    platform: str
    device: str
    threads: int
    """Of each process."""
    processes: int = 1
    """That shared the run."""
    accumulate: int = 1
    """Parts in which each worked on a training step: methods that compare samples of a batch see one part's alone."""
    git_commit: str | None
    """Of the project, when run from a checkout."""
    git_dirty: bool | None
    """Whether the sources differed from that commit."""


Sampler = Literal["halton", "tpe"]
"""Where the settings of a search's trials come from: a quasi-random sequence, or optuna's estimator."""


class Tuning(Part):
    """The search that settings of a run come from; its file is kept in ``tuning``, beside the task's runs."""

    trials: int = Field(ge=1)
    """Trials that had been made, the defaults among them."""
    best: int = Field(ge=0)
    """Number of the trial whose settings are used; 0 is the defaults."""
    settings: dict[str, JsonValue]
    """Those of the method that were taken from it."""
    sampler: Sampler = "halton"


class RunRecord(Part):
    """The outcome of a :class:`RunSpec`; ``run_id`` is checked against the specification when it is read."""

    schema_version: Literal[1] = 1
    run_id: str
    spec: RunSpec
    task_label: str
    """Folder of the task under the results: its name and what was changed from its defaults."""
    label: str
    """Row of the table: method, guidance and what was changed from their defaults."""
    tuned: Tuning | None = None
    """Where the method's settings were chosen by a search."""
    status: Status
    reason: str | None = None
    """Why it did not finish."""
    started: str
    """UTC, ISO 8601."""
    finished: str
    environment: Environment
    protocol: dict[str, str]
    """Versions of the fairness rules, the extractor and each stage: records that differ are not put in one table."""
    stages: dict[str, str] = {}
    """Stage → sha256 of its inputs."""
    streams: str | None = None
    """sha256 over data order, noise, timesteps and prompt dropout of every step: equal across methods."""
    weights: str | None = None
    """sha256 of the trained weights' file."""
    cost: Cost | None = None
    metrics: list[Metric] = []
    diagnostics: list[dict[str, JsonValue]] = []
    """What the method says of itself over time, such as the expert usage of a mixture since the entry before."""
    files: list[str] = []
    """Names of the files kept beside the record."""

    @property
    def rules(self) -> str:
        """Major.Minor of the fairness rules, by which records compare."""
        return ".".join(self.protocol.get("rules", "").split(".")[:2])

    @model_validator(mode="after")
    def _identity(self) -> RunRecord:
        if self.run_id != self.spec.id:
            raise ValueError(f"run_id {self.run_id[:12]} is not the identity of the spec ({self.spec.id[:12]})")
        return self

    @model_validator(mode="after")
    def _each_score_once(self) -> RunRecord:
        """A score that stood twice would count as two seeds."""
        keys = [(metric.name, metric.group, metric.scope) for metric in self.metrics]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"the score {', '.join(twice)} is there twice")
        return self


def write_record(folder: Path, record: RunRecord) -> Path:
    """Write ``record.json`` into ``folder`` and return its path."""
    path = folder / RECORD_NAME
    write_json(path, record.model_dump(mode="json"))
    return path


def read_record(path: Path) -> RunRecord:
    """Read a record. Raises :class:`UserError` that names the file and its first fault."""
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{path}: not a record this version reads: {where}: {first['msg']}.") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
