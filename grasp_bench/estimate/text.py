"""An estimate as a user reads it, in full and in one line."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from grasp_bench.estimate.cost import Stage
from grasp_bench.estimate.devices import GIB
from grasp_bench.estimate.estimate import Estimate
from grasp_bench.estimate.memory import Training

LEFT_OUT = (
    "Not in it: reading images from the disk, features, scores, and what a guidance learns beforehand; on the disk, "
    "validation and test images for classifiers. Memory is the allocator's, without fragmentation; classifiers may "
    "stop earlier."
)


def short(found: Estimate) -> str:
    """Return the estimate in one line."""
    way = found.way
    how = (
        f"{way.micro_batch} of {found.subject.budget.batch_size} images at a time" if way.micro_batch else "NOT fitting"
    )
    step, several = found.measured.step, found.manner.processes
    shared = f" of GPU time, shared by {several} GPUs," if several > 1 else ""
    return (
        f"{step.parameters:,} of {step.total:,} parameters trained; about {hours(found.hours)}{shared} on "
        f"{found.device.name} at {found.utilisation:.0%} of its peak, {gib(way.peak)} at the peak of training "
        f"({how}{', gradient checkpointing' if way.checkpointing else ''}), {gib(sum(found.disk.values()))} on the disk"
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


def tables(found: Estimate) -> Iterator[Table]:
    """Yield memory, hours and disk."""
    yield _memory(found)
    hours_table = Table("stage", "PFLOP", "hours", title=f"time at {found.utilisation:.0%} of the peak")
    for stage in (*found.stages, Stage("all", sum(each.flops for each in found.stages), found.hours)):
        hours_table.add_row(stage.name, f"{stage.flops / 1e15:,.1f}", f"{stage.hours:.2f}")
    disk = Table("on the disk", "GiB", title="work folder")
    for name, size in found.disk.items():
        disk.add_row(name, f"{size / GIB:.2f}")
    for table in (hours_table, disk):
        for column in table.columns[1:]:
            column.justify = "right"
        yield table


def _memory(found: Estimate) -> Table:
    sampling, coding = found.sampling, found.measured.coding
    ways = [each for each in (found.training, found.checkpointed) if each]
    table = Table("GiB", *map(_way, ways), title=f"training; {found.device.usable / GIB:.1f} GiB usable")
    rows = {
        "weights": [each.weights for each in ways],
        "gradients": [each.gradients for each in ways],
        "optimiser state": [each.optimizer for each in ways],
        "activations at the peak": [each.activations for each in ways],
        "of these, each image": [each.per_image for each in ways],
        "peak": [each.peak for each in ways],
    }
    for name, values in rows.items():
        table.add_row(name, *(f"{value / GIB:.2f}" for value in values))
    table.add_section()
    table.add_row(f"sampling, {sampling.images} at a time", f"{sampling.peak / GIB:.2f}")
    table.add_row("  weights, activations", f"{sampling.weights / GIB:.2f}, {sampling.activations / GIB:.2f}")
    if coding:
        table.add_row("  decoding", f"{sampling.autoencoder / GIB:.2f} + {sampling.decoding / GIB:.2f}")
        table.add_row("encoding images", f"{coding.encode.peak / GIB:.2f}")
        table.add_row("encoding prompts", f"{4 * found.measured.shapes.encoders / GIB:.2f}")
    side = found.measured.classification.pixels
    table.add_row(f"classifier at {side} pixels", f"{found.classifier / GIB:.2f}")
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _way(way: Training) -> str:
    kept = "checkpointing" if way.checkpointing else "activations kept"
    return f"{kept}: {way.micro_batch} images at a time" if way.micro_batch else f"{kept}: does not fit"


def gib(size: float) -> str:
    """Return bytes in words."""
    return f"{size / GIB:.1f} GiB"


def hours(count: float) -> str:
    """Return hours in words."""
    return f"{count:.1f} h" if count >= 1 else f"{count * 60:.0f} min"
