"""How long each stage of a run takes on a GPU, and what it leaves on the disk.

A stage takes as long as its products do at a stated share of the GPU's peak, or as reading and writing does at the full
speed of its memory, whichever is longer. Left out is what a GPU has no part in: reading images from the disk, scores,
pictures. So are features of images, which take seconds, and what a guidance learns beforehand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from grasp_bench.estimate.devices import Device
from grasp_bench.estimate.measure import SMALL, Measured
from grasp_bench.estimate.memory import Training, training
from grasp_bench.estimate.subject import Subject

FLOAT = 4  # bytes
MOMENTS = 2  # of AdamW, for each trainable parameter
CHECKPOINTS = 2  # on the disk at once: the last one, and that which replaces it
PER_HOUR = 3600


@dataclass(frozen=True)
class Stage:
    """A stage's work on the GPU."""

    name: str
    flops: float
    hours: float
    shared: str
    """What its outcome serves beside this run, for the sum over a sweep; empty if nothing."""


def stages(subject: Subject, measured: Measured, device: Device, utilisation: float) -> list[Stage]:
    """Return the stages in their order. Training goes as it fits, without gradient checkpointing where it does."""
    budget, backbone = subject.budget, f"{subject.backbone}@{subject.resolution}"
    images, classes = len_train(subject), len(subject.sampled.classes())
    generated, evaluations = classes * budget.images_per_class, subject.guidance.evaluations(steps(subject))
    method = f"{subject.spec.method.name} {subject.method.config!r} {budget!r}"
    data = f"{subject.spec.task.name} {subject.task.config!r}"

    def stage(name: str, flops: float, traffic: float, shared: str, half: bool = False) -> Stage:
        seconds = device.seconds(flops, traffic, budget.precision if half else "float32", utilisation)
        return Stage(name, flops, seconds / PER_HOUR, shared)

    found = []
    if coding := measured.coding:
        views = images * (1 + budget.horizontal_flip)
        found.append(stage("latents", views * coding.encode.flops, views * coding.encode.traffic, f"{data} {backbone}"))
        distinct, shapes = len(subject.task.classes()) + 1, measured.shapes
        flops, weights = 2 * shapes.encoders * shapes.tokens, FLOAT * shapes.encoders
        found.append(stage("prompts", distinct * flops, distinct * weights, f"{data} {backbone}"))
    way = chosen_way(subject, measured, device)
    passes = measured.checkpointed if way.checkpointing else measured.passes
    traffic = budget.batch_size * passes.traffic_per_image + way.accumulate * passes.traffic
    found.append(
        stage(
            "train",
            budget.steps * budget.batch_size * passes.flops,
            budget.steps * (traffic + measured.step.update.traffic),
            f"{data} {backbone} {method}",
            half=True,
        )
    )
    step = measured.sampling
    count = generated * evaluations
    found.append(
        stage("generate", count * step.taken.flops / step.evaluations, count * _traffic(measured), "", half=True)
    )
    if coding:
        found.append(stage("decode", generated * coding.decode.flops, generated * coding.decode.traffic, ""))
    recipe, classifier = subject.sampled.classifier, measured.classification.step
    real = len_train(subject, sampled=True)
    for name, seen in (("generated", generated), ("real", real), ("topped-up", real + generated)):
        batches = recipe.seeds * recipe.epochs * math.ceil(seen / recipe.batch_size)
        found.append(
            stage(f"classify-{name}", batches * classifier.flops, batches * classifier.traffic, data * (name == "real"))
        )
    return found


def chosen_way(subject: Subject, measured: Measured, device: Device) -> Training:
    """Return how the run is trained: with gradient checkpointing where it does not fit without."""
    plain, checkpointed = (training(measured, subject.budget, device, each) for each in (False, True))
    return plain if plain.micro_batch or not checkpointed.micro_batch else checkpointed


def steps(subject: Subject) -> int:
    """Return the sampling steps of an image."""
    return subject.guidance.steps(subject.budget)


def len_train(subject: Subject, sampled: bool = False) -> int:
    """Return how many training images the method's task has, or that of the classifier."""
    task = subject.sampled if sampled else subject.task
    return sum(info.train_count for info in task.classes())


def _traffic(measured: Measured) -> float:
    """Return the bytes that an evaluation reads and writes in a large batch, to which weights add next to nothing."""
    step = measured.sampling
    return max(0.0, (step.taken.traffic - step.weights) / step.evaluations) if step.evaluations > SMALL else 0.0


def disk(subject: Subject, measured: Measured) -> dict[str, float]:
    """Return what a run leaves in its work folder → bytes; checkpoints go when the training is done."""
    images, shapes, parameters = len_train(subject), measured.shapes, measured.step.parameters
    generated = len(subject.sampled.classes()) * subject.budget.images_per_class
    latents = images * (1 + subject.budget.horizontal_flip) * math.prod(shapes.latent) * FLOAT
    return {
        "latents": latents if shapes.encoded else 0,
        "prompts": (len(subject.task.classes()) + 1) * shapes.prompt if shapes.encoded else 0,
        "checkpoints": CHECKPOINTS * parameters * FLOAT * (1 + MOMENTS),
        "weights": parameters * FLOAT,
        "images": generated * math.prod(shapes.pixels),
    }
