"""How long each stage of a run takes on a GPU, and what it leaves on the disk.

A stage takes as long as its products do at a stated share of the GPU's peak, or as reading and writing does at the full
speed of its memory, whichever is longer. Left out is what a GPU has no part in: reading images from the disk, scores,
pictures. So are features of images, which take seconds, what a guidance learns beforehand, and on the disk the
validation and test images that classifiers read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from grasp_bench.contracts.spec import Precision
from grasp_bench.estimate.devices import Device
from grasp_bench.estimate.measure import Measured
from grasp_bench.estimate.memory import Training
from grasp_bench.estimate.steps import Taken
from grasp_bench.estimate.subject import Subject
from grasp_bench.run.stages import pixels
from grasp_bench.run.training.checkpoint import KEPT

FLOAT = 4  # bytes
MOMENTS = 2  # of AdamW, for each trainable parameter
PER_HOUR = 3600


@dataclass(frozen=True)
class Stage:
    """A stage's work on the GPU."""

    name: str
    flops: float
    hours: float
    shared: str = ""
    """What decides its outcome beside the seed, where other runs may share it; empty where none can."""
    of_seed: bool = True
    """Whether the seed decides its outcome, too."""


def stages(subject: Subject, measured: Measured, way: Training, device: Device, utilisation: float) -> list[Stage]:
    """Return the stages in their order; ``way`` is how the run is trained."""

    def hours(work: Work, precision: Precision = "float32") -> float:
        return device.seconds(work.flops, work.traffic, precision, utilisation) / PER_HOUR

    budget, spec, coding = subject.budget, subject.spec, measured.coding
    asked = spec.budget  # of images; the same, unless the task has a generator
    data = f"{spec.task.name} {subject.sampled.config!r}"
    source = f"{subject.plan.trained_on.spec.task.name} {subject.task.config!r}"  # what is trained on
    encoded = f"{source} {subject.backbone} {subject.resolution}"
    studied = f"{encoded} {spec.method.name} {subject.method.config!r} {budget.precision}"
    trained = f"{encoded} {spec.method.name} {subject.method.config!r} {budget!r}"
    images, generated = subject.task.train_images(), len(subject.sampled.classes()) * asked.images_per_class
    found = []
    if coding:
        latents = Work.of(coding.encode) * (images * (1 + budget.horizontal_flip))
        texts = _prompt(measured) * subject.task.most_prompts()
        found.append(Stage("latents", latents.flops, hours(latents), encoded, of_seed=False))
        found.append(Stage("prompts", texts.flops, hours(texts), encoded, of_seed=False))
    if subject.method.studies:
        study = _evaluation(measured) * measured.study
        found.append(Stage("study", study.flops, hours(study, budget.precision), studied))
    training = _step(subject, measured, way) * budget.steps
    found.append(Stage("train", training.flops, hours(training, budget.precision), trained))
    evaluations = subject.guidance.evaluations(subject.guidance.steps(asked))
    sampling = _evaluation(measured) * (generated * evaluations)
    found.append(Stage("generate", sampling.flops, hours(sampling, asked.precision)))
    if coding:
        decoding = Work.of(coding.decode) * generated
        found.append(Stage("decode", decoding.flops, hours(decoding)))
    recipe, real = subject.plan.recipe, subject.sampled.train_images()
    for name, seen in (("generated", generated), ("real", real), ("topped-up", real + generated)):
        batches = recipe.seeds * recipe.epochs * math.ceil(seen / recipe.batch_size)
        work = Work.of(measured.classification.step) * batches
        shared = f"{data} {subject.plan.shape} {recipe!r}" if name == "real" else ""
        found.append(Stage(f"classify-{name}", work.flops, hours(work), shared))
    return found


@dataclass(frozen=True)
class Work:
    """What the GPU does."""

    flops: float
    traffic: float
    """Bytes read and written."""

    @classmethod
    def of(cls, taken: Taken) -> Work:
        """Return the work of what was simulated."""
        return cls(taken.flops, taken.traffic)

    def __mul__(self, times: float) -> Work:
        return Work(self.flops * times, self.traffic * times)


def _prompt(measured: Measured) -> Work:
    """Return the encoding of a prompt: two FLOPs per parameter and token, and all weights read once."""
    shapes = measured.shapes
    return Work(2 * shapes.encoders * shapes.tokens, FLOAT * shapes.encoders)


def _step(subject: Subject, measured: Measured, way: Training) -> Work:
    """Return a training step of the budget's batch."""
    passes, size = way.passes, subject.budget.batch_size
    traffic = size * passes.traffic_per_image + way.accumulate * passes.traffic + measured.step.update.traffic
    return Work(size * passes.flops, traffic)


def _evaluation(measured: Measured) -> Work:
    """Return a network evaluation in a large batch, to which reading the weights adds next to nothing."""
    step = measured.sampling
    traffic = max(0, step.taken.traffic - step.weights) / step.evaluations
    return Work(step.taken.flops / step.evaluations, traffic)


def disk(subject: Subject, measured: Measured) -> dict[str, float]:
    """Return what a run leaves in its work folder → bytes; checkpoints go when the training is done."""
    images, shapes, parameters = subject.task.train_images(), measured.shapes, measured.step.parameters
    generated = len(subject.sampled.classes()) * subject.spec.budget.images_per_class
    cached = subject.sampled.reads_files
    latents = images * (1 + subject.budget.horizontal_flip) * math.prod(shapes.latent) * FLOAT
    return {
        "latents": latents if shapes.encoded else 0,
        "prompts": subject.task.most_prompts() * shapes.prompt if shapes.encoded else 0,
        "checkpoints": KEPT * parameters * FLOAT * (1 + MOMENTS),
        "weights": parameters * FLOAT,
        "images": generated * math.prod(shapes.pixels),
        "pixels": subject.sampled.train_images() * shapes.pixels[0] * pixels.side(subject.plan) ** 2 if cached else 0,
    }
