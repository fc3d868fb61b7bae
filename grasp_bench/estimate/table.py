"""Estimates side by side, in Markdown: a row for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from grasp_bench.errors import UserError
from grasp_bench.estimate.devices import DEVICES, GIB, Device
from grasp_bench.estimate.errors import SkippedError
from grasp_bench.estimate.estimate import UTILISATION, Estimate, estimate
from grasp_bench.estimate.subject import choose

COLUMNS = (
    "backbone",
    "px",
    "method",
    "trainable",
    "TFLOP/image",
    "GiB: images at a time",
    "training",
    "generating",
    "all",
)
METHODS = ("grasp", "lora", "vanilla-ft", "moe")
BACKBONES = ("sana-0.6b", "sd3.5-medium", "pixart-sigma", "flux-dev")
RESOLUTIONS = (256, 512, 1024)
TASK, GPU = "mimic-lt", "h100-80gb"
"""What the documentation's table is of."""


def row(found: Estimate) -> list[str]:
    """Return the cells of :data:`COLUMNS`; hours are of GPUs on which the run fits."""
    hours = {stage.name: stage.hours for stage in found.stages}
    times = (hours["train"], hours["generate"] + hours.get("decode", 0), found.hours)
    return [
        found.subject.named,
        str(found.measured.shapes.pixels[-1]),
        found.subject.spec.method.name,
        millions(found.measured.step.parameters),
        f"{found.measured.passes.flops / 1e12:.3g}",
        _memory(found),
        *(f"{time:.1f} h" if found.fits else "-" for time in times),
    ]


def rows(
    methods: Iterable[str] = METHODS,
    task: str = TASK,
    backbones: Iterable[str] = BACKBONES,
    resolutions: Iterable[int] = RESOLUTIONS,
    device: Device = DEVICES[GPU],
    utilisation: float = UTILISATION,
) -> Iterator[list[str]]:
    """Yield a row for each backbone, resolution and method; where one does not apply, why."""
    for backbone, side, method in itertools.product(backbones, resolutions, methods):
        try:
            yield row(estimate(choose(method, task, backbone, resolution=side), device, utilisation))
        except (SkippedError, UserError) as reason:
            yield [backbone, str(side), method, str(reason), *["-"] * (len(COLUMNS) - 4)]


def lines(rows: Iterable[list[str]]) -> Iterator[str]:
    """Yield the lines of a table in Markdown."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{'---|' * 3}{'---:|' * (len(COLUMNS) - 3)}"
    for cells in rows:
        yield f"| {' | '.join(cells)} |"


def millions(count: int) -> str:
    """Return a number of parameters in millions or billions."""
    return f"{count / 1e6:,.1f} M" if count < 1e9 else f"{count / 1e9:.2f} B"


def _memory(found: Estimate) -> str:
    way, rows = found.way, found.subject.budget.batch_size
    peak, whole = f"{way.peak / GIB:.1f}", ", which stay together" if found.whole_batch else ""
    refused = f"does not fit ({peak} for {rows // way.accumulate}{whole})"
    fits = f"{peak}: {way.micro_batch}" if way.micro_batch else refused
    return f"{fits}, recomputed" if way.checkpointing and way.micro_batch else fits
