"""Time and memory of training steps."""

from __future__ import annotations

import multiprocessing
import statistics
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch

from grasp_bench.run.environment import peak_mib, reset_peak_memory

from .recording import interleaved
from .training import Sizes, Step

MEMORY_STEPS = 3

Maker = Callable[[Sizes, torch.device], Step]


def repeats(sizes: Sizes) -> str:
    """For readers."""
    return f"Medians of {sizes.repeats} interleaved repeats after one to warm up"


def time_steps(steps: Mapping[str, Step], repeats: int) -> dict[str, Any]:
    """Medians of interleaved repeats after one step each to warm up, with and without the optimiser."""
    interleaved(steps, 1)
    seconds = interleaved(steps, repeats)
    return {
        "trainable_parameters": {name: step.trainable for name, step in steps.items()},
        "seconds": seconds,
        "median_seconds": {name: statistics.median(each) for name, each in seconds.items()},
        "median_seconds_without_optimizer": {
            name: statistics.median(step.gradient_seconds[-repeats:]) for name, step in steps.items()
        },
    }


def ratios(details: Mapping[str, Any], a: str, b: str) -> dict[str, float]:
    """a over b, of the step and of its forward and backward pass alone."""
    kinds = {"step": "median_seconds", "without_optimizer": "median_seconds_without_optimizer"}
    return {name: details[kind][a] / details[kind][b] for name, kind in kinds.items()}


def memory_method(device: torch.device) -> str:
    """What :func:`peak_memory` measures, for readers."""
    what_counts = (
        "The most that tensors took of the GPU"
        if device.type == "cuda"
        else "The largest resident set, with the interpreter, its libraries and all weights,"
    )
    return (
        f"{what_counts} in {MEMORY_STEPS} steps, each method in a fresh process; before_mib is what was held when they "
        "began."
    )


def peak_memory(make: Maker, sizes: Sizes, device: torch.device) -> dict[str, float]:
    """Memory of training in a process of its own, in MiB."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(own_peak_memory, make, sizes, device).result()


def own_peak_memory(make: Maker, sizes: Sizes, device: torch.device) -> dict[str, float]:
    """Memory of training in this process, in MiB."""
    step = make(sizes, device)
    reset_peak_memory(device)
    before = peak_mib(device)
    for _ in range(MEMORY_STEPS):
        step()
    return {"before_mib": before, "peak_mib": peak_mib(device)}
