"""The contract of an entry of the open division: images that were made elsewhere, and what is said of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from grasp_bench.bounds import Count, Number
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.spec import RunSpec
from grasp_bench.contracts.task import Task, TaskSettings
from grasp_bench.documents import read_toml
from grasp_bench.errors import UserError, did_you_mean, first_fault
from grasp_bench.processes import Processes

if TYPE_CHECKING:
    import torch

VERSION = "1"
"""The version of how entries are read, chosen from and brought to size; scores of different versions do not compare."""
EXTERNAL = "external"
"""What stands for the guidance of an entry, which the harness does not control."""


SHOWN = ("guidance_scale", "steps")
"""Settings of a pipeline that tell rows of one name apart."""


Words = Annotated[str, Field(max_length=500)]
"""A fact in words."""


class Facts(BaseModel):
    """What is declared of how images were made. The harness records it, and checks none of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    trainer: Words | None = None
    """Program that trained the model, such as "diffusers train_text_to_image_lora.py 0.38"."""
    base_model: Words | None = None
    """Pretrained model that was fine-tuned, with its revision; empty for one that was trained from scratch."""
    trained_on: Words | None = None
    """Images that the model was trained on, beyond those of its pretraining."""
    trainable_parameters: Count | None = None
    """Number of trainable parameters."""
    images_seen: Count | None = None
    """Training images seen: steps times batch size."""
    nfe: Annotated[Number, Field(ge=0)] | None = None
    """Network function evaluations per generated image."""
    licence: Words | None = None
    """Licence of the model or the images."""
    link: Annotated[Words, Field(pattern=r"^https?://\S+$")] | None = None
    """Address of the model, the code or the paper, which begins with http:// or https://."""
    notes: Words | None = None
    """Anything else that a reader must know."""

    @property
    def costs(self) -> dict[str, float]:
        """Return what stands in for fields of :class:`~grasp_bench.contracts.record.Cost`, by their names."""
        found = {
            "trainable_parameters": self.trainable_parameters,
            "network_evaluations_per_image": self.nfe,
        }
        return {name: float(value) for name, value in found.items() if value is not None}

    @property
    def words(self) -> dict[str, str]:
        """Return everything that is declared as text, by its name in words."""
        return {
            name.replace("_", " "): f"{value:,.6g}" if isinstance(value, float) else str(value)
            for name, value in self.model_dump(exclude_none=True).items()
        }


class Found(BaseModel):
    """What the images of an entry turned out to be."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    images: Count
    """Images that were given or generated."""
    scored: Count
    """Images that were scored: as many of every class as the budget has."""
    selection: str | None = None
    """How the scored images were chosen where more were given; None where there were as many as are scored."""
    resized: Count
    """Scored images that were brought to another size."""
    repeated: Count
    """Scored images whose pixels another scored image of the same class has, too."""
    seconds: float | None = None
    """Seconds that the harness generated for; None where images were given."""


class Entered(BaseModel):
    """What the record of an open run has beside its scores."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    declared: Facts = Facts()
    found: Found | None = None
    """None where the run did not finish."""


@dataclass(frozen=True)
class Request:
    """What an entry's images are asked for."""

    spec: RunSpec
    task: Task[TaskSettings]
    shape: tuple[int, int, int]
    """C, H, W of the images that are scored."""
    device: torch.device
    batch_size: int
    """Images generated at a time."""
    sampled: Callable[[], tuple[list[tuple[str, int]], torch.Tensor]]
    """Returns every image's prompt and class index where images are generated, and the classes (n,) of the scores."""
    known: Callable[[], Mapping[str, str]]
    """Returns the sha256 of the pixels of every real image at ``shape`` → the split that it is in."""
    processes: Processes
    progress: Progress


@dataclass(frozen=True)
class Entry:
    """Images of every class that take the place of what a method would generate."""

    name: str
    settings: Mapping[str, JsonValue]
    """Whatever decides the images, such as their hash; no path."""
    declared: Facts = field(default_factory=Facts)
    make: Callable[[Request, Path], Found] | None = None
    """Leaves the images in a folder, as the stage ``generate`` keeps them; None where only the record is here."""
    threads: int | Literal["table's"] | None = "table's"
    """Usual threads of the CPU of what generates, None for torch's own number; the table's backbone says it else."""

    @property
    def shown(self) -> dict[str, JsonValue]:
        """Settings that are part of the row's label."""
        return {name: self.settings[name] for name in SHOWN if name in self.settings}


def facts_of(declared: Mapping[str, Any] | str | os.PathLike[str] | None) -> Facts:
    """Return facts that are given by name, or are in a TOML file. Raises :class:`UserError` that names the field."""
    if declared is None or isinstance(declared, Mapping):
        return _validated("declared", declared or {})
    return read_facts(Path(declared))


def facts_in(declared: str) -> Facts:
    """Return the facts in the JSON that tables of results have; none where it is empty."""
    return Facts.model_validate_json(declared or "{}")


def read_facts(path: Path) -> Facts:
    """Return what a TOML file declares; empty texts are none. Raises :class:`UserError` that names file and field."""
    return _validated(path, read_toml(path, "Expected what `grasp-bench new entry` writes."))


def _validated(where: object, given: Mapping[str, Any]) -> Facts:
    for name in given:
        if name not in Facts.model_fields:
            known = list(Facts.model_fields)
            raise UserError(f"{where}: {name!r} is none of the facts: {', '.join(known)}.{did_you_mean(name, known)}")
    try:
        return Facts.model_validate({name: value for name, value in given.items() if value != ""})
    except ValidationError as error:
        raise UserError(f"{where}, {first_fault(error, value=True)}.") from error
