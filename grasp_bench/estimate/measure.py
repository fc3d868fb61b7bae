"""What a run takes of any GPU: its steps simulated at two sizes, from which every other follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

from grasp_bench.estimate import steps
from grasp_bench.estimate.depth import extrapolated
from grasp_bench.estimate.subject import Subject

SMALL, LARGE = 16, 32
"""Images of the simulated training steps: so many that the peak is where activations are most, and not where all
gradients are there, which :func:`.memory.peak` looks at by itself."""


@dataclass(frozen=True)
class Passes:
    """The forward and backward pass of a training step of any number of images."""

    fixed: float
    """Bytes at its peak, whatever the number of images; without the optimiser's state."""
    per_image: float
    """Bytes at its peak per image."""
    flops: float
    """FLOPs per image."""
    traffic: float
    """Bytes read and written per step, whatever the number of images."""
    traffic_per_image: float

    @classmethod
    def of(cls, small: steps.TrainingStep, large: steps.TrainingStep) -> Passes:
        """Return the line through two steps."""
        width = LARGE - SMALL
        per_image, traffic = ((after - before) / width for before, after in _pairs(small, large))
        return cls(
            max(small.weights, small.passes.peak - SMALL * per_image),
            per_image,
            (large.passes.flops - small.passes.flops) / width,
            max(0.0, small.passes.traffic - SMALL * traffic),
            traffic,
        )

    def peak(self, images: int) -> float:
        """Return the bytes at the peak, without the optimiser's state."""
        return self.fixed + images * self.per_image


def _pairs(small: steps.TrainingStep, large: steps.TrainingStep) -> list[tuple[int, int]]:
    return [(small.passes.peak, large.passes.peak), (small.passes.traffic, large.passes.traffic)]


@dataclass(frozen=True)
class Measured:
    """A run's steps."""

    shapes: steps.Shapes
    study: int
    """Network evaluations of one image that the method's study takes; 0 without one."""
    step: steps.TrainingStep
    """A training step of :data:`SMALL` images, without gradient checkpointing."""
    passes: Passes
    """The passes of any number of images, without gradient checkpointing."""
    sampling: steps.SamplingStep
    """A step of sampling :data:`SMALL` images."""
    coding: steps.Coding | None
    """Encoding and decoding of one image; None where latents are images."""
    classification: steps.Classification


def measure(subject: Subject) -> Measured:
    """Return what a run's steps take, simulated once for all its seeds.

    Raises :class:`~.errors.SkippedError` where a run would be skipped, and :class:`~.errors.NotEstimatedError` for a
    method whose study decides what a step takes.
    """
    backbone = (subject.backbone, subject.resolution)
    study = once(lambda: steps.study_evaluations(subject), "study", *_key(subject)) if subject.method.studies else 0
    shapes = once(lambda: steps.shapes(subject), "shapes", *backbone)
    small, large = _training(subject, checkpointing=False)
    return Measured(
        shapes,
        study,
        small,
        Passes.of(small, large),
        once(lambda: extrapolated(_sampling, subject), "sampling", *_key(subject)),
        once(lambda: steps.coding(subject, 1), "coding", *backbone) if shapes.encoded else None,
        once(lambda: steps.classification(subject), "classification", *_classifier(subject, shapes)),
    )


def checkpointed(subject: Subject) -> Passes:
    """Return the passes with gradient checkpointing."""
    return Passes.of(*_training(subject, checkpointing=True))


def _training(subject: Subject, checkpointing: bool) -> list[steps.TrainingStep]:
    """Return training steps of :data:`SMALL` and :data:`LARGE` images."""

    def make(each: Subject) -> list[steps.TrainingStep]:
        return steps.training_steps(each, (SMALL, LARGE), checkpointing)

    return once(
        lambda: extrapolated(make, subject, alike=not checkpointing),
        "training",
        checkpointing,
        *_key(subject),
    )


def _sampling(subject: Subject) -> steps.SamplingStep:
    return steps.sampling_steps(subject, SMALL)[0]


def _key(subject: Subject) -> tuple[object, ...]:
    spec = subject.spec.model_copy(update={"seed": 0})
    return spec.id, subject.backbone, repr(subject.method.config), repr(subject.guidance.config), subject.resolution


def _classifier(subject: Subject, shapes: steps.Shapes) -> tuple[object, ...]:
    """Return what decides a step of the downstream classifier: not the task's name, as its recipe is another's too."""
    recipe = subject.plan.recipe
    return recipe.network, recipe.batch_size, recipe.resolution, shapes.pixels, len(subject.sampled.classes())


_kept: dict[tuple[object, ...], object] = {}

T = TypeVar("T")


def once(make: Callable[[], T], *key: object) -> T:
    """Return what ``make`` gives, made once in this process for each key."""
    if key not in _kept:
        _kept[key] = make()
    return cast(T, _kept[key])
