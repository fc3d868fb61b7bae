"""What happened: the record of a run, one JSON file that holds every number a table shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator
from pydantic_core import from_json, to_json

from grasp_bench.bounds import LARGEST_INTEGER, Count, Number, kept
from grasp_bench.contracts import record_v1
from grasp_bench.contracts.entry import Entered
from grasp_bench.contracts.row import Row, row_of
from grasp_bench.contracts.spec import Division, RunSpec
from grasp_bench.errors import UserError, first_fault
from grasp_bench.io import check_file, unreadable, write_bytes

RECORD_NAME = "record.json"

Status = Literal["finished", "failed", "oom", "cancelled", "skipped"]
DONE: tuple[Status, ...] = ("finished", "skipped")
BROKEN: tuple[Status, ...] = ("failed", "oom")
"""Runs that were tried and broke; they are rerun by whoever has fixed the cause."""
PRIVATE = "what it said may name patients' data, and is not kept"
"""What stands for the words of an error, where the data are private."""


class Part(BaseModel):
    """Base of the record's parts: unknown fields and NaN are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


DRAW: Final = "equal-count draw"
"""Unit of percentiles over draws, which are no interval of the score."""


class Interval(Part):
    """A 95 % interval over images or patients; of equal-count draws only the 2.5th and 97.5th percentile of the scores.

    Records made before 0.3 have percentiles of a bootstrap in place of the former, which are too narrow where a score
    is near its bound or patients are few.
    """

    low: Number
    high: Number
    unit: Literal["image", "equal-count draw", "patient", "seed"]
    """What is resampled; "equal-count draw": the subsets of images that are compared, one per draw, which
    is no interval of anything fixed but the spread over them."""
    units: int = Field(ge=2, le=LARGEST_INTEGER)
    """Number of units that are resampled."""


Source = Literal["generated", "real", "topped-up"]
TestSet = Literal["test", "balanced-test"]
TRAINED_ON: dict[Source, str] = {
    "generated": "generated images",
    "real": "real images",
    "topped-up": "real images topped up with generated ones",
}


ENOUGH_SEEDS = 5
"""Seeds of a row of a leaderboard; one with fewer is marked provisional."""
ARROWS = {"lower": "↓", "higher": "↑"}
"""Direction of a metric → its sign in tables."""


class Score(Part):
    """One score of one group."""

    metric: str
    """Name of the metric, such as "fd" or "accuracy"."""
    metric_version: str = "1"
    """Version of the metric: values of different versions are not compared."""
    label: str
    """Title of the metric in a table, such as "FD(digits-cnn)", without source and test set."""
    direction: Literal["lower", "higher"]
    """Which way is better."""
    source: Source = "generated"
    """Images that are scored, or that the scored classifier was trained on."""
    test_set: TestSet = "test"
    extractor: str | None = None
    """Extractor of the features, such as "hf:microsoft/rad-dino"; None for the first one of the task, and for a metric
    of a classifier."""
    group: str
    """A group of the task, or "all"."""
    scope: Literal["group", "class mean", "worst class", "whole test set"] = "group"
    """Whether the value belongs to the group's images together, to the mean over its classes, to its worst class, or to
    all test images and as many generated ones, whatever their classes."""
    value: Number | None
    """The score; None where there are too few images."""
    n: Count
    """Images behind the value (of each kind, where two sets are compared); without a value, as many as there are."""
    interval: Interval | None = None
    reference: Number | None = None
    """Score of real images against held-out real images, at the same count; over the whole test set, that of training
    images."""
    worst: str | None = None
    """Name of the worst class."""

    @property
    def place(self) -> tuple[str, str, str, str, str, str]:
        """What tells the score from every other one of its run."""
        return self.metric, self.source, self.test_set, self.extractor or "", self.group, self.scope


CLASS_MEANS = "Metrics of features are means over the classes of a group, or of all groups."


def of_groups(scores: Sequence[Score]) -> list[Score]:
    """Return the scores of groups as tables have them: means over classes where the metric has them.

    Others are of a group's images together: those of classifiers, and of metrics without a mean for want of images.
    """

    def place(score: Score) -> tuple[str, ...]:
        return score.label, score.source, score.test_set, score.group

    means = {place(each) for each in scores if each.scope == "class mean" and each.value is not None}
    return [each for each in scores if each.scope == ("class mean" if place(each) in means else "group")]


def titled(scores: Sequence[Score]) -> dict[str, list[Score]]:
    """Title → the scores of a run under it; a title names source and test set where the metric has several of them."""
    sources: dict[str, set[str]] = {}
    for score in scores:
        sources.setdefault(score.metric, set()).add(score.source)
    found: dict[str, list[Score]] = {}
    for score in scores:
        several = len(sources[score.metric]) > 1
        found.setdefault(title(score.label, score.source if several else None, score.test_set), []).append(score)
    return found


def title(label: str, source: Source | None, test_set: TestSet) -> str:
    """A metric's label with the images that its classifier was trained on, unless None, and an unusual test set."""
    trained = f", trained on {TRAINED_ON[source]}" if source else ""
    return label + trained + (", balanced test set" if test_set == "balanced-test" else "")


class Cost(Part):
    """What the run spent."""

    trainable_parameters: Count
    active_parameters: Count | None = None
    """Trainable parameters at work for one image: fewer where a method routes; None in records written before they
    were counted."""
    total_parameters: Count
    """Parameters of the backbone and of what the method adds."""
    train_seconds: Number
    seconds_per_step: Number
    peak_memory_mib: Number
    """Peak while training: of the GPU's allocations, or of the whole process on a CPU."""
    checkpoint_mib: Number
    """Size of the trained weights."""
    generate_seconds: Number
    network_evaluations_per_image: Number
    """Network function evaluations (NFE): forward passes per image."""
    backward_passes_per_image: Number | None = None
    """Backward passes per image; None in records written before they were counted."""
    gflops_per_image: Number | None = None
    """FLOPs per image in billions, forward and backward, a multiply-add counted as two, with the classifiers of a
    guidance and the decoder. Counted in the first batch and scaled by the network evaluations of all images; None in
    records written before they were counted."""
    generate_peak_memory_mib: Number | None = None
    """Peak while generating, measured like the peak while training; None in records written before it was."""


class Environment(Part):
    """Where the run was made."""

    versions: dict[str, str]
    """Python and the packages that decide numbers."""
    platform: str
    cpu_instructions: str | None = None
    """Vector instructions of the processor that torch uses, such as "AVX2" or "AVX512": with others, sums are taken in
    another order. None in records written before it was kept."""
    device: str
    threads: Count
    """Threads of each process."""
    processes: Count = 1
    """Processes that shared the run."""
    accumulate: Count = 1
    """Parts in which each process worked on a training step: methods that compare samples of a batch see one part's
    samples alone."""
    gradient_checkpointing: bool = False
    """Whether activations were recomputed in the backward pass; False in records written before it was kept."""
    git_commit: str | None
    """Commit of the project, when run from a checkout."""
    git_dirty: bool | None
    """Whether the sources differed from that commit."""


Sampler = Literal["halton", "tpe"]
"""Where the settings of a search's trials come from: a quasi-random sequence, or optuna's estimator."""


class Tuning(Part):
    """The search that settings of a run come from; its file is kept in ``tuning``, beside the runs of the task."""

    trials: int = Field(ge=1, le=LARGEST_INTEGER)
    """Trials that had been made, the defaults among them."""
    best: Count
    """Number of the trial whose settings are used; 0 is the defaults."""
    settings: Annotated[dict[str, JsonValue], AfterValidator(kept)]
    """Settings of the method that were taken from the search."""
    sampler: Sampler = "halton"
    scale: Number | None = None
    """The guidance scale that the search chose with the settings, which the run has unless another was given by hand;
    None where the search chose none, or the run has another guidance."""

    @property
    def words(self) -> str:
        """Return the number of its trials, and its sampler if that is not the default."""
        return f"{self.trials}{'' if self.sampler == 'halton' else f'-{self.sampler}'}"


class RunRecord(Part):
    """The outcome of a :class:`RunSpec`; ``run_id`` is checked against the specification when it is read."""

    schema_version: Literal[2] = 2
    run_id: str
    spec: RunSpec
    task_label: str
    """Name of the task's folder under the results."""
    label: str
    """Name of the method's folder within that of the task."""
    division: Division = "closed"
    entry: Entered | None = None
    """What is declared and was found of the images of an open run; None for closed ones."""
    changed: Annotated[dict[str, dict[str, JsonValue]], AfterValidator(kept)] = {}
    """``task``, ``method`` and ``guidance`` → the settings that differed from their defaults when the run was made,
    except those of ``tuned``."""
    backbone_label: str
    """Name of the backbone on the command line, or its family and the start of its revision."""
    recipe: str | None = None
    """The backbone whose recipe gave defaults, which ``changed`` leaves out; None where it has none of its own."""
    sampling: str | None = None
    """How often training drew each class, by the method's setting; None in records written before it was kept."""
    default_backbone: bool = True
    """Whether the backbone is the one that the task asks for."""
    caution: str = ""
    """What headings say of a backbone that only shows that the code runs; empty where it is not so."""
    default_guidance: bool = True
    """Whether the guidance is the one that the task asks for, whatever its settings; False where a record of schema 1
    does not tell."""
    tuned: Tuning | None = None
    """The search that chose settings of the method; None without one."""
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
    scores: list[Score] = []
    sizes: dict[str, int] = {}
    """Size of what was trained by its setting, such as the rank that followed from the number of parameters; empty of
    methods without a size, and in records written before it was kept."""
    diagnostics: Annotated[list[dict[str, JsonValue]], AfterValidator(kept)] = []
    """What the method logs of itself over time, such as the expert usage of a mixture since the previous entry."""
    files: list[str] = []
    """Names of the files kept beside the record."""

    @property
    def metrics(self) -> dict[str, str]:
        """Name → version of the metrics that the run was scored by."""
        return {score.metric: score.metric_version for score in self.scores}

    @property
    def row(self) -> Row:
        """What people read in place of the label."""
        backbone = "" if self.default_backbone else self.backbone_label
        words, scale = (self.tuned.words, self.tuned.scale) if self.tuned else ("", None)
        return row_of(self.spec, self.changed, backbone, words, scale, self.default_guidance)

    @property
    def title(self) -> str:
        """What messages and pictures call the run."""
        return f"{self.row} on {self.task_label}, seed {self.spec.seed}"

    @property
    def rules(self) -> str:
        """Major.Minor of the fairness rules, by which records compare."""
        return ".".join(self.protocol.get("rules", "").split(".")[:2])

    @model_validator(mode="after")
    def _identity(self) -> RunRecord:
        if self.run_id != self.spec.id:
            raise ValueError(f"run_id {self.run_id[:12]} is not the identity of the spec ({self.spec.id[:12]})")
        if self.division != self.spec.division:
            raise ValueError(f"division {self.division} is not that of the spec ({self.spec.division})")
        return self

    @model_validator(mode="after")
    def _each_score_once(self) -> RunRecord:
        """Refuse a score that is recorded twice, which would count as two seeds."""
        keys = [score.place for score in self.scores]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"the score {', '.join(filter(None, twice))} is recorded twice")
        return self


def record_bytes(record: RunRecord) -> bytes:
    """The record as JSON: indented, with one line per score, in which only what it has stands beside ``value``."""
    facts = json.dumps(record.model_dump(mode="json", exclude={"scores"}), indent=2, allow_nan=False)
    scores = (score.model_dump(mode="json", exclude_none=True) | {"value": score.value} for score in record.scores)
    lines = ",".join(f"\n    {json.dumps(score, allow_nan=False)}" for score in scores)
    closing = "\n  ]" if lines else "]"
    return f'{facts[:-2]},\n  "scores": [{lines}{closing}\n}}\n'.encode()


def write_record(folder: Path, record: RunRecord) -> Path:
    """Write ``record.json`` into ``folder`` and return its path."""
    path = folder / RECORD_NAME
    write_bytes(path, record_bytes(record))
    return path


def read_record(path: Path) -> RunRecord:
    """Read a record of any schema. Raises :class:`UserError` that names the file and its first fault.

    It is an :class:`AccessError` where the file cannot be read, which says nothing of what it holds.
    """
    try:
        return parse_record(check_file(path).read_bytes())
    except ValidationError as error:
        raise UserError(f"{path}: not a record this version reads: {first_fault(error)}.") from error
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    except OSError as error:
        raise unreadable(path, error) from error


def parse_record(content: bytes) -> RunRecord:
    """Return the record of any schema in ``content``. Raises :class:`ValidationError` for anything else."""
    try:
        return RunRecord.model_validate_json(content)
    except ValidationError as error:
        if not any(each["loc"] == ("schema_version",) and each["input"] == 1 for each in error.errors()):
            raise
        return RunRecord.model_validate_json(to_json(record_v1.converted(from_json(content))))
