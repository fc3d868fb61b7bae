"""What fine-tuning costs on a GPU at the true size of SD3.5-medium and PixArt-Σ, with random weights.

``PYTHONPATH=tests python -m bench.bench_gpu`` writes results/perf/gpu.json, after each configuration anew, and starts
no other once ``--minutes`` have passed; ``--tiny`` tries it at a toy size, also with ``--device cpu``.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from grasp_bench import seeds
from grasp_bench.adapters.residual import RoutedAdapter
from grasp_bench.estimate.devices import of_card
from grasp_bench.run.environment import describe, peak_mib, reset_peak_memory

from .recording import RESULTS, TRIALS, Measure, record, timed
from .trainer import OPTIMIZER, PRECISION, Trainer
from .true_sizes import PIXELS, PUBLISHED, TINY, Model

METHODS = ("grasp", "lora", "vanilla-ft")
REPEATS, ENOUGH = 3, 4.0  # steps that are timed, and seconds after which no other is begun
UNBOUNDED = 2**20  # images: more than any card holds
TOLERANCE = 0.05  # bfloat16 and sums in any order; a sample on another's route changes gradients by their whole size


@dataclass(frozen=True)
class Sizes:
    """What is measured at which size."""

    models: tuple[Model, ...]
    latent_sides: tuple[int, ...]
    largest_batch: int
    longest_step: float
    """Seconds; the batch is not doubled beyond a step that takes longer."""


def by_batch(trainer: Trainer, sizes: Sizes, flops: int, peak: float | None) -> tuple[list[dict[str, float]], str]:
    """Speed and memory at batches of 1, 2, 4 and so on, and why there is no larger one."""
    rows: list[dict[str, float]] = []
    ended, size = "largest batch", 1
    while size <= sizes.largest_batch:
        try:
            rows.append(at_batch(trainer, size, flops, peak))
        except torch.OutOfMemoryError:
            ended = "out of memory"
            break
        if rows[-1]["seconds"] > sizes.longest_step:
            ended = f"a step takes over {sizes.longest_step:g} s"
            break
        size *= 2
    trainer.optimizer.zero_grad()
    release()
    return rows, ended


def at_batch(trainer: Trainer, size: int, flops: int, peak: float | None) -> dict[str, float]:
    """Speed and memory at one batch, after a step to warm up."""
    batch = trainer.batch(size)
    reset_peak_memory(trainer.device)
    trainer.step(batch)
    seconds: list[float] = []
    while len(seconds) < REPEATS and sum(seconds) < ENOUGH:
        seconds.append(timed(lambda: trainer.step(batch))[0])
    median = statistics.median(seconds)
    row = {
        "batch": size,
        "seconds": median,
        "images_per_second": size / median,
        "peak_gib": peak_mib(trainer.device) / 1024,
    }
    return row if peak is None else row | {"share_of_peak": size * flops / median / peak}


def release() -> None:
    """Give memory back that nothing holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def peak_flops(name: str) -> float | None:
    """FLOP/s of the card ``name``; None where it is not known."""
    found = of_card(name, memory=80)  # which decides the bandwidth alone
    return found and found.tflops * 1e12


def gradient_differences(trainer: Trainer) -> dict[str, float]:
    """How far gradients of a batch of mixed routes are from those of another pass: checkpointed, or merely repeated.

    The largest |a - b| / |a| of a parameter. Raises RuntimeError where a cluster's adapter has no gradient. Leaves the
    adapters with other weights.
    """
    generator = seeds.generator("init", "gradients")
    for module in trainer.backbone.transformer.modules():
        if isinstance(module, RoutedAdapter):
            for up in module.up:  # zeros, behind which the gradient of `down` is zero as well
                up.data.copy_(torch.randn(up.shape, generator=generator) * len(up) ** -0.5)
    batch = trainer.batch(2 * len(trainer.classes))
    passes = []
    for checkpointing in (False, False, True):
        trainer.checkpoint(checkpointing)
        trainer.backward(batch)
        passes.append({name: each.grad for name, each in trainer.parameters.items()})
    expected, repeated, checkpointed = passes
    return {"checkpointed": _farthest(expected, checkpointed), "repeated": _farthest(expected, repeated)}


def _farthest(expected: dict[str, Any], found: dict[str, Any]) -> float:
    differences = []
    for name, gradient in expected.items():
        if gradient is None or found[name] is None or not gradient.norm():
            raise RuntimeError(f"{name} has no gradient, though its cluster is in the batch")
        differences.append(((found[name] - gradient).norm() / gradient.norm()).item())
    return max(differences)


def measure_method(model: Model, side: int, method: str, sizes: Sizes, device: torch.device) -> list[Measure]:
    """A method without and with gradient checkpointing."""
    trainer, card = Trainer(model, side, method, device), describe(device).device
    flops, peak = trainer.flops_per_image(), peak_flops(card)
    measures = []
    for checkpointing in (False, True):
        trainer.checkpoint(checkpointing)
        rows, ended = by_batch(trainer, sizes, flops, peak)
        kept = "activations recomputed" if checkpointing else "activations kept"
        measures.append(
            Measure(
                name=f"{model.name}, {side * PIXELS} px, {method}, {kept}",
                value=max((row["images_per_second"] for row in rows), default=0.0),
                unit="images/s",
                method=(
                    f"The most at any batch of 1, 2, 4 and so on: each the median of {REPEATS} steps, or of those that "
                    f"begin within {ENOUGH:g} s, after one to warm up. Products and frozen weights in {PRECISION}, "
                    f"{OPTIMIZER} on float32, latents of {side} by {side}, {model.prompt_tokens} prompt tokens. "
                    "share_of_peak is of the card's dense bfloat16 and counts the matrix products of a forward and a "
                    "backward pass, not those that are done again for the sake of memory."
                ),
                details={
                    "device": card,
                    "parameters": trainer.total,
                    "trainable_parameters": trainer.trainable,
                    "flops_per_image": flops,
                    "batches": rows,
                    "ended": ended,
                },
            )
        )
    if method == "grasp" and side == min(sizes.latent_sides):
        differences = gradient_differences(trainer)
        measures.append(
            Measure(
                name=f"{model.name}, {side * PIXELS} px, grasp: gradients with checkpointing against those without",
                value=differences["checkpointed"],
                unit="of their norm",
                at_most=TOLERANCE,
                method=(
                    f"The largest difference of a parameter's gradient, in {PRECISION}, at a batch of two samples a "
                    "cluster in turn; `repeated` is that of two passes alike."
                ),
                details={"device": card, **differences},
            )
        )
    return measures


def measure(sizes: Sizes, device: torch.device, minutes: float, folder: Path) -> None:
    """Every configuration that is begun within ``minutes``; what there is so far is written after each."""
    deadline, measures, left_out = time.monotonic() + 60 * minutes, list[Measure](), list[str]()
    for model, side, method in itertools.product(sizes.models, sizes.latent_sides, METHODS):
        if time.monotonic() > deadline:
            left_out.append(f"{model.name}, {side * PIXELS} px, {method}")
            continue
        measures += measure_method(model, side, method, sizes, device)
        release()
        record("gpu", measures, [], folder)
    complete = Measure(
        name="configurations left out",
        value=len(left_out),
        unit="",
        at_most=0,
        method=f"Those that were not begun within {minutes:g} minutes.",
        details={"left_out": left_out},
    )
    record("gpu", [*measures, complete], [], folder)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="bench.bench_gpu", description="Fine-tuning at true sizes on a GPU.")
    parser.add_argument("--device", default="cuda", help="cuda (the default) or cuda:N; cpu with --tiny alone")
    parser.add_argument("--tiny", action="store_true", help="toy sizes, which show that the script works")
    parser.add_argument("--minutes", type=float, default=9, help="begin no configuration after so many (default 9)")
    parser.add_argument(
        "--longest-step",
        type=float,
        default=4,
        metavar="SECONDS",
        help="do not double the batch beyond a step that takes longer (default 4)",
    )
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    if device.type != "cuda" and not chosen.tiny:
        parser.error(f"--device {chosen.device}: true sizes need a GPU; use --device cuda, or add --tiny.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        parser.error(
            f"--device {chosen.device}: torch sees {count} CUDA devices here; try it with --device cpu --tiny."
        )
    if chosen.tiny:
        measure(Sizes(TINY, (8, 16), 4, chosen.longest_step), device, chosen.minutes, TRIALS)
    else:
        measure(Sizes(PUBLISHED, (64, 128), UNBOUNDED, chosen.longest_step), device, chosen.minutes, RESULTS)


if __name__ == "__main__":
    main()
