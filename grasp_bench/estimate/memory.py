"""What of a run is in a GPU's memory at once, part by part, and how many images fit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from grasp_bench.contracts.spec import Budget
from grasp_bench.estimate.devices import Device
from grasp_bench.estimate.measure import SMALL, Measured, Passes

IMAGES_AT_ONCE = 100
"""What a run generates at a time where its memory suffices."""


@dataclass(frozen=True)
class Training:
    """Training in one of two ways: activations are kept for the backward pass, or made again."""

    checkpointing: bool
    micro_batch: int
    """Images of a part of a step: as many as fit, 0 where not one does."""
    accumulate: int
    """Parts of a step."""
    gradients: float
    """Bytes, of every trainable parameter."""
    optimizer: float
    """Bytes of the optimiser's state."""
    weights: float
    """Bytes of the transformer's weights."""
    activations: float
    """Bytes at the peak beside weights and optimiser: activations, what the passes make on their way, and gradients
    that are there by then; of one image where not even that fits."""
    per_image: float
    """Of these, bytes that each further image adds."""
    peak: float
    """Bytes: the most that a step holds at once."""
    passes: Passes


def training(
    measured: Measured, passes: Passes, budget: Budget, device: Device, checkpointing: bool = False
) -> Training:
    """Return how a step of the budget's batch is worked on in the largest parts that fit."""
    fitting = [part for part in divisors(budget.batch_size) if peak(measured, passes, part) <= device.usable]
    part = fitting[0] if fitting else 0
    step, at = measured.step, max(1, part)
    return Training(
        checkpointing,
        part,
        budget.batch_size // at,
        step.gradients,
        step.optimizer,
        step.weights,
        passes.peak(at) - step.weights,
        passes.per_image,
        peak(measured, passes, at),
        passes,
    )


def peak(measured: Measured, passes: Passes, images: int) -> float:
    """Return the bytes that a step holds at its peak: in the backward pass, or while the optimiser steps.

    Between the parts of a step, gradients of all earlier ones are there.
    """
    step = measured.step
    held = step.weights + step.gradients + step.optimizer
    return max(passes.peak(images) + step.optimizer, step.update.peak, held)


@dataclass(frozen=True)
class Sampling:
    """Generating images."""

    images: int
    """At a time: as many as fit, 100 at most; 0 where not one does."""
    weights: float
    """Bytes of the transformer's weights, and of another that the guidance compares it with."""
    activations: float
    """Bytes at the peak beside them."""
    autoencoder: float
    """Bytes of the autoencoder's weights, which are there from the first images on."""
    decoding: float
    """Bytes at the peak of decoding, which goes image by image, beside all weights."""
    peak: float


def sampling(measured: Measured, device: Device) -> Sampling:
    """Return how images are generated as many at a time as fit."""
    step, coding = measured.sampling, measured.coding
    per_image = (step.taken.peak - step.weights) / SMALL
    autoencoder = coding.weights if coding else 0
    decoding = coding.decode.peak - coding.weights if coding else 0
    room = device.usable - step.weights - autoencoder
    images = max(0, min(IMAGES_AT_ONCE, math.floor(room / per_image))) if room > decoding else 0
    activations = per_image * max(1, images)
    held = step.weights + autoencoder
    return Sampling(images, step.weights, activations, autoencoder, decoding, held + max(activations, decoding))


def divisors(number: int) -> list[int]:
    """Return the divisors of a number, descending."""
    small = [each for each in range(1, math.isqrt(number) + 1) if number % each == 0]
    return sorted({*small, *(number // each for each in small)}, reverse=True)
