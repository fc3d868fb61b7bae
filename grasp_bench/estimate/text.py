"""An estimate as a user reads it, in full and in one line."""

from __future__ import annotations

from collections.abc import Iterator

from grasp_bench.estimate.cost import Stage
from grasp_bench.estimate.devices import GIB
from grasp_bench.estimate.estimate import Estimate
from grasp_bench.estimate.memory import Training
from grasp_bench.screen import Sheet

LEFT_OUT = (
    "Not in it: reading images from the disk, features, scores, and what a guidance learns beforehand; on the disk, "
    "validation and test images for classifiers. Memory is the allocator's, without fragmentation; classifiers may "
    "stop earlier. Prompts are counted by the weights of their encoders."
)


def short(found: Estimate) -> str:
    """Return the estimate in one line."""
    way = found.way
    rows = found.subject.budget.batch_size
    refused = f"NOT fitting{f': {said}' if (said := whole_batch(found)) else ''}"
    how = f"{way.micro_batch} of {rows} images at a time" if way.micro_batch else refused
    step, several = found.measured.step, found.manner.processes
    shared = f" of GPU time, shared by {several} GPUs," if several > 1 else ""
    return (
        f"{step.parameters:,} of {step.total:,} parameters trained; about {hours(found.hours)}{shared} on "
        f"{found.device.name} at {found.utilisation:.0%} of its peak, {gib(way.peak)} at the peak of training "
        f"({how}{', gradient checkpointing' if way.checkpointing else ''}){_encoding(found)}, "
        f"{gib(sum(found.disk.values()))} on the disk"
    )


def _encoding(found: Estimate) -> str:
    """Return what encoding takes before training, of images or prompts, whichever takes more; empty without any."""
    if not found.encoding:
        return ""
    what, size = max(found.encoding.items(), key=lambda each: each[1])
    refused = "" if size <= found.device.usable else " (NOT fitting)"
    return f", {gib(size)} to encode {what}{refused}"


def whole_batch(found: Estimate) -> str:
    """Return why a step's images stay together, and what parts them all the same; empty where they need not."""
    if not (reason := found.whole_batch):
        return ""
    return (
        f"a step's images are worked on together, since {reason}; --accumulate N works on them in N parts and changes "
        "numbers"
    )


def heading(found: Estimate) -> str:
    """Return what is estimated."""
    spec, side = found.subject.spec, found.measured.shapes.pixels[-1]
    step, passes, sampling = found.measured.step, found.measured.passes, found.measured.sampling
    return (
        f"{spec.method.name} on {spec.task.name} with {found.subject.named} at {side} pixels, guidance "
        f"{spec.guidance.name}, budget {spec.budget.name}, {spec.budget.precision}, on {found.device.name}\n"
        f"{step.parameters:,} trainable parameters of {step.total:,}; {passes.flops / 1e12:.3g} TFLOP per training "
        f"image, {sampling.taken.flops / sampling.evaluations / 1e12:.3g} per network evaluation"
    )


def tables(found: Estimate) -> Iterator[Sheet]:
    """Yield memory, hours and disk."""
    yield _memory(found)
    stages = (*found.stages, Stage("all", sum(each.flops for each in found.stages), found.hours))
    rows = [(stage.name, f"{stage.flops / 1e15:,.1f}", f"{stage.hours:.2f}") for stage in stages]
    yield Sheet(f"time at {found.utilisation:.0%} of the peak", ("stage", "PFLOP", "hours"), rows, frozenset({1, 2}))
    disk = [(name, f"{size / GIB:.2f}") for name, size in found.disk.items()]
    yield Sheet("work folder", ("on the disk", "GiB"), disk, frozenset({1}))


def _memory(found: Estimate) -> Sheet:
    sampling, several = found.sampling, found.manner.processes > 1
    ways = [each for each in (found.training, found.checkpointed) if each]
    training = {
        "weights": [each.weights for each in ways],
        "gradients": [each.gradients for each in ways],
        "optimiser state": [each.optimizer for each in ways],
        **({"gradients that processes exchange": [each.exchanged for each in ways]} if several else {}),
        "activations at the peak": [each.activations for each in ways],
        "of these, each image": [each.per_image for each in ways],
        "peak": [each.peak for each in ways],
    }
    rows = [[name, *(f"{value / GIB:.2f}" for value in values)] for name, values in training.items()]
    apart = {
        f"sampling, {sampling.images} at a time": f"{sampling.peak / GIB:.2f}",
        "  weights, activations": f"{sampling.weights / GIB:.2f}, {sampling.activations / GIB:.2f}",
    }
    if found.measured.coding:
        apart["  decoding"] = f"{sampling.autoencoder / GIB:.2f} + {sampling.decoding / GIB:.2f}"
    apart |= {f"encoding {what}": f"{size / GIB:.2f}" for what, size in found.encoding.items()}
    apart[f"classifier at {found.measured.classification.pixels} pixels"] = f"{found.classifier / GIB:.2f}"
    rows += [[name, size, *[""] * (len(ways) - 1)] for name, size in apart.items()]
    title = f"training; {found.device.usable / GIB:.1f} GiB usable"
    return Sheet(title, ("GiB", *map(_way, ways)), rows, frozenset(range(1, len(ways) + 1)), caption=whole_batch(found))


def _way(way: Training) -> str:
    kept = "checkpointing" if way.checkpointing else "activations kept"
    return f"{kept}: {way.micro_batch} images at a time" if way.micro_batch else f"{kept}: does not fit"


def gib(size: float) -> str:
    """Return bytes in words."""
    return f"{size / GIB:.1f} GiB"


def hours(count: float) -> str:
    """Return hours in words."""
    return f"{count:.1f} h" if count >= 1 else f"{count * 60:.0f} min"
