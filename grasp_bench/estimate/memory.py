"""The parts of a run that are in a GPU's memory at once, and how many images fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from grasp_bench.estimate.devices import Device
from grasp_bench.estimate.measure import SMALL, Measured, Passes
from grasp_bench.run.training.fitting import Auto


@dataclass(frozen=True)
class Manner:
    """How a run is carried out, as far as it decides what fits: options of ``grasp-bench run``, and their defaults."""

    accumulate: int | Auto = "auto"
    checkpointing: bool | Auto = "auto"
    processes: int = 1
    """GPUs, each with a copy of all weights."""
    images_at_once: int = 100
    """Generated at a time, where the memory suffices."""


AUTOMATIC = Manner()
"""As a run is carried out where no option says otherwise."""


@dataclass(frozen=True)
class Training:
    """Training in one of two ways: activations are kept for the backward pass, or recomputed."""

    checkpointing: bool
    micro_batch: int
    """Images of a part of a step on one GPU: of what the loop tries, the first that fits; 0 where nothing does."""
    accumulate: int
    """Parts of a step."""
    gradients: float
    """Bytes, of every trainable parameter."""
    optimizer: float
    """Bytes of the optimiser's state."""
    exchanged: float
    """Bytes of the gradients that processes exchange, which DDP holds beside those of the parameters; 0 for one."""
    weights: float
    """Bytes of the transformer's weights."""
    activations: float
    """Bytes at the peak beside these: activations, what the passes make on their way, and gradients
    that are there by then; of what was tried last where nothing fits."""
    per_image: float
    """Bytes that each further image adds to the activations."""
    peak: float
    """Bytes: the most that a step holds at once."""
    passes: Passes


def training(
    measured: Measured,
    passes: Passes,
    rows: int,
    tried: Sequence[int],
    device: Device,
    checkpointing: bool = False,
    processes: int = 1,
) -> Training:
    """Return how the ``rows`` images of a step that one of ``processes`` has are worked on.

    That is in the first number of parts of ``tried`` that fits.
    """
    parts = next((n for n in tried if peak(measured, passes, rows // n, processes) <= device.usable), tried[-1])
    step, at = measured.step, rows // parts
    most = peak(measured, passes, at, processes)
    return Training(
        checkpointing,
        at if most <= device.usable else 0,
        parts,
        step.gradients,
        step.optimizer,
        _exchanged(measured, processes),
        step.weights,
        passes.peak(at) - step.weights,
        passes.per_image,
        most,
        passes,
    )


def peak(measured: Measured, passes: Passes, images: int, processes: int = 1) -> float:
    """Return the bytes that a step holds at its peak: in the backward pass, or while the optimiser steps.

    Between the parts of a step, gradients of all earlier ones are there.
    """
    step = measured.step
    held = step.weights + step.gradients + step.optimizer
    return max(passes.peak(images) + step.optimizer, step.update.peak, held) + _exchanged(measured, processes)


def _exchanged(measured: Measured, processes: int) -> float:
    return measured.step.gradients if processes > 1 else 0


@dataclass(frozen=True)
class Sampling:
    """Generating images."""

    images: int
    """At a time: as many as fit, or as were asked for; 0 where not one does."""
    weights: float
    """Bytes of the transformer's weights, and of another that the guidance compares it with."""
    activations: float
    """Bytes at the peak beside them."""
    autoencoder: float
    """Bytes of the autoencoder's weights, which are there from the first images on."""
    decoding: float
    """Bytes at the peak of decoding, which goes image by image, beside all weights."""
    peak: float


def sampling(measured: Measured, device: Device, most: int) -> Sampling:
    """Return how images are generated, as many at a time as fit and ``most`` at most."""
    step, coding = measured.sampling, measured.coding
    per_image = (step.taken.peak - step.weights) / SMALL
    autoencoder = coding.weights if coding else 0
    decoding = coding.decode.peak - coding.weights if coding else 0
    room = device.usable - step.weights - autoencoder
    images = max(0, min(most, math.floor(room / per_image))) if room > decoding else 0
    activations = per_image * max(1, images)
    held = step.weights + autoencoder
    return Sampling(images, step.weights, activations, autoencoder, decoding, held + max(activations, decoding))
