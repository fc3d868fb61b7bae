"""The estimate of a run, and of all the runs of a sweep."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from grasp_bench.estimate import cost, memory
from grasp_bench.estimate.devices import Device
from grasp_bench.estimate.errors import NotEstimatedError
from grasp_bench.estimate.measure import Measured, checkpointed, measure
from grasp_bench.estimate.subject import Subject
from grasp_bench.run.sharing import check_sharing
from grasp_bench.run.training.fitting import layouts

UTILISATION = 0.4
"""Share of a GPU's peak that products reach, unless stated; what well-written training of transformers does."""


@dataclass(frozen=True)
class Estimate:
    """What a run takes on one GPU."""

    subject: Subject
    device: Device
    utilisation: float
    measured: Measured
    training: memory.Training
    """Memory of a training step without gradient checkpointing."""
    checkpointed: memory.Training | None
    """Memory of a step with gradient checkpointing; None where it was not asked for and is not needed."""
    sampling: memory.Sampling
    stages: tuple[cost.Stage, ...]
    disk: dict[str, float]
    """What stays in the work folder → bytes."""
    manner: memory.Manner = memory.AUTOMATIC

    @property
    def way(self) -> memory.Training:
        """How the run is trained: as the training loop chooses."""
        return chosen(self.training, self.checkpointed, self.manner)

    @property
    def fits(self) -> bool:
        """Whether the run can be encoded, trained and sampled from on the GPU at all."""
        encodes = all(size <= self.device.usable for size in self.encoding.values())
        return encodes and self.way.micro_batch > 0 and self.sampling.images > 0

    @property
    def encoding(self) -> dict[str, float]:
        """What is encoded before training → bytes that it takes, without the transformer; empty where nothing is.

        Images are encoded one at a time where no more fit. Of prompts these are the weights of all text encoders, in
        float32 and without activations.
        """
        if not (coding := self.measured.coding):
            return {}
        return {"images": coding.encode.peak, "prompts": cost.FLOAT * self.measured.shapes.encoders}

    @property
    def whole_batch(self) -> str | None:
        """Why a step is worked on in one part; None where it is not, or where the user chose the parts."""
        return self.subject.method.needs_whole_batch if self.manner.accumulate == "auto" else None

    @property
    def hours(self) -> float:
        """Hours of all stages together."""
        return sum(stage.hours for stage in self.stages)

    @property
    def classifier(self) -> float:
        """Bytes at the peak of training the downstream classifier."""
        return self.measured.classification.step.peak

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON: bytes, FLOPs and hours."""
        spec, shapes = self.subject.spec, self.measured.shapes
        return {
            "method": spec.method.name,
            "method_settings": self.subject.method.config.changed(),
            "task": spec.task.name,
            "backbone": self.subject.named,
            "guidance": spec.guidance.name,
            "budget": spec.budget.model_dump(mode="json"),
            "resolution": shapes.pixels[-1],
            "gpu": asdict(self.device),
            "utilisation": self.utilisation,
            "trainable_parameters": self.measured.step.parameters,
            "total_parameters": self.measured.step.total,
            "flops_per_training_image": self.measured.passes.flops,
            "training": asdict(self.training),
            "training_checkpointed": asdict(self.checkpointed) if self.checkpointed else None,
            "sampling": asdict(self.sampling),
            "encoding_peak": self.encoding.get("images"),
            "text_encoders": self.encoding.get("prompts"),
            "classifier_peak": self.classifier,
            "fits": self.fits,
            "whole_batch": self.whole_batch,
            "stages": [{"name": each.name, "flops": each.flops, "hours": each.hours} for each in self.stages],
            "hours": self.hours,
            "disk": self.disk,
        }


def chosen(
    plain: memory.Training, checkpointed: memory.Training | None, manner: memory.Manner = memory.AUTOMATIC
) -> memory.Training:
    """Return the way of training that is taken: gradient checkpointing where asked for, or where nothing else fits."""
    if checkpointed is None or manner.checkpointing is False:
        return plain
    return checkpointed if manner.checkpointing is True or not plain.micro_batch else plain


def estimate(
    subject: Subject,
    device: Device,
    utilisation: float = UTILISATION,
    both: bool = False,
    manner: memory.Manner = memory.AUTOMATIC,
) -> Estimate:
    """Return what a run takes on a GPU whose products reach ``utilisation`` of its peak.

    With ``both``, gradient checkpointing is looked at even where it is not needed. Raises
    :class:`~.errors.SkippedError` where a run would be skipped, :class:`NotEstimatedError` for a guidance that learns
    and for a method whose study decides what a step takes, and :class:`~grasp_bench.errors.UserError` for processes or
    parts that cannot share a step.
    """
    check_sharing(subject.plan, manner.accumulate, False, manner.processes)
    if subject.guidance.learns:
        raise NotEstimatedError(
            f"guidance {subject.spec.guidance.name}: it learns before it guides, which an estimate does not cover. "
            "Choose another, such as cfg."
        )
    measured = measure(subject)
    rows = subject.budget.batch_size // manner.processes
    tried = layouts(rows, manner.accumulate, False, whole=subject.method.needs_whole_batch is not None)
    parts = [layout.parts for layout in tried]
    worked_on = partial(memory.training, measured, rows=rows, tried=parts, device=device, processes=manner.processes)
    plain = worked_on(passes=measured.passes)
    other = None
    if both or manner.checkpointing is True or not (plain.micro_batch or manner.checkpointing is False):
        other = worked_on(passes=checkpointed(subject), checkpointing=True)
    return Estimate(
        subject,
        device,
        utilisation,
        measured,
        plain,
        other,
        memory.sampling(measured, device, manner.images_at_once),
        tuple(cost.stages(subject, measured, chosen(plain, other, manner), device, utilisation)),
        cost.disk(subject, measured),
        manner,
    )


@dataclass(frozen=True)
class Total:
    """What runs take together: a stage whose outcome several of them share is counted once."""

    runs: int
    hours: float
    """GPU-hours."""

    def money(self, rate: float) -> float:
        """Return the price at ``rate`` per GPU-hour."""
        return self.hours * rate


def total(runs: Iterable[tuple[Estimate, str]]) -> Total:
    """Return the sum over runs, each given with its seed."""
    counted: dict[tuple[str, ...], float] = {}
    number = 0
    for number, (found, seed) in enumerate(runs, 1):
        for stage in found.stages:
            own = (seed,) if stage.shared and stage.of_seed else () if stage.shared else (str(number),)
            counted[stage.name, stage.shared, *own] = stage.hours
    return Total(number, sum(counted.values()))
