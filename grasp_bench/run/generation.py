"""Generating the images of every class, batch by batch."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch

from grasp_bench.checked import save_checked, undamaged
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.spec import RunSpec
from grasp_bench.errors import UserError
from grasp_bench.io import write_json, written_whole
from grasp_bench.memory import Portion
from grasp_bench.processes import Processes
from grasp_bench.run.environment import peak_mib, reset_peak_memory
from grasp_bench.run.files import GENERATE_SUMMARY, IMAGES
from grasp_bench.run.flops import FlopCount
from grasp_bench.sampling import Sampler, noise_stream

KIND = "batch"
SPENT = ("seconds", "evaluations", "backward_passes", "flops_per_image", "peak_memory_mib")
"""What every batch says of itself. FLOPs are counted in the first batch and zero in others, since counting is slow."""


def generate(
    spec: RunSpec,
    subjects: Sequence[tuple[str, int]],
    labels: torch.Tensor,
    sampler: Sampler,
    folder: Path,
    batch_size: int,
    processes: Processes,
    progress: Progress,
) -> None:
    """Write ``images_per_class`` images of each class to ``folder``, class by class.

    ``subjects`` has each image's prompt, and the index of its class among those that the method was fine-tuned on;
    ``labels`` (n,) are the classes that are written beside the images.

    Each image has a noise stream of its own, so neither the batch's size, the number of processes nor an interruption
    changes what it is made from; batches that are done stay when the work is interrupted. Raises :class:`UserError`
    where a guidance takes more network evaluations than it says.
    """
    steps = sampler.guidance.steps(spec.budget)
    sampler.place(sampler.backbone)
    reset_peak_memory(sampler.device)
    make = partial(_make, spec, subjects, steps, sampler, folder)
    in_batches(len(labels), make, folder, batch_size, processes, progress)
    if processes.is_first:
        collect(folder, labels, progress)


def in_batches(
    count: int,
    make: Callable[[list[int]], int],
    folder: Path,
    batch_size: int,
    processes: Processes,
    progress: Progress,
) -> None:
    """Have ``make`` leave every image in ``folder`` that it lacks, by numbers below ``count``; it returns how many.

    Where memory runs out, a process goes on with half as many images at a time, and tells.
    """
    made = processes.first_says(
        lambda: [number for _, batch in undamaged(folder, KIND, progress.say) for number in batch["numbers"].tolist()]
    )
    missing = sorted(set(range(count)).difference(made))
    batches = [missing[start : start + batch_size] for start in range(0, len(missing), batch_size)]
    portion = Portion(batch_size, "images are generated", progress.say)
    with progress.task("generate", count, len(made)) as advance, processes.apart(folder):
        for numbers in processes.share(batches):
            for done in portion.over(numbers, make):
                advance(done)


def _make(
    spec: RunSpec,
    subjects: Sequence[tuple[str, int]],
    steps: int,
    sampler: Sampler,
    folder: Path,
    numbers: list[int],
) -> int:
    """Generate the images of those ``numbers``, leave them and what they cost in ``folder``, and return how many."""
    started, evaluations, backward = time.perf_counter(), sampler.evaluations, sampler.backward_passes
    operations = FlopCount()
    with operations if numbers[0] == 0 else nullcontext():
        images = _sample(spec, subjects, steps, sampler, numbers)
    spent = {
        "seconds": time.perf_counter() - started,
        "evaluations": sampler.evaluations - evaluations,
        "backward_passes": sampler.backward_passes - backward,
        "flops_per_image": operations.total / len(numbers),
        "peak_memory_mib": peak_mib(sampler.device),
    }
    _check_spent(spec, steps, spent["evaluations"] / len(numbers))
    batch = {"images": images, "numbers": torch.tensor(numbers)}
    batch |= {name: torch.tensor(value, dtype=torch.float64) for name, value in spent.items()}
    save_checked(folder, KIND, numbers[0], batch)
    return len(numbers)


def _sample(
    spec: RunSpec,
    subjects: Sequence[tuple[str, int]],
    steps: int,
    sampler: Sampler,
    numbers: list[int],
) -> torch.Tensor:
    """The images of those ``numbers``, (B, C, H, W) in uint8."""
    prompts, known = zip(*(subjects[number] for number in numbers), strict=True)
    each, shape = spec.budget.images_per_class, sampler.backbone.latent_shape
    streams = [noise_stream(spec.task.name, spec.seed, *divmod(number, each)) for number in numbers]
    noise = torch.stack([torch.randn(shape, generator=stream) for stream in streams])
    return sampler(noise, list(prompts), torch.tensor(known), steps, streams)


def write_images(path: Path, images: Iterable[torch.Tensor], shape: tuple[int, ...], labels: torch.Tensor) -> None:
    """Write ``images`` (n, *shape) in uint8 and ``labels`` int64 (n,) as safetensors, one image at a time."""
    count, start = len(labels), labels.nbytes
    entries = {
        "labels": {"dtype": "I64", "shape": [count], "data_offsets": [0, start]},
        "images": {
            "dtype": "U8",
            "shape": [count, *shape],
            "data_offsets": [start, start + count * math.prod(shape)],
        },
    }
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    with written_whole(path) as file:
        file.write(len(header).to_bytes(8, "little") + header + labels.numpy().tobytes())
        for image in images:
            file.write(image.contiguous().numpy().data)


def _check_spent(spec: RunSpec, steps: int, evaluations: float) -> None:
    """Refuse more ``evaluations`` per image than the budget has: what is compared at equal numbers would not be."""
    limit = spec.budget.evaluations
    if limit is not None and evaluations > limit:
        raise UserError(
            f"guidance {spec.guidance.name} took {evaluations:g} network evaluations per image in {steps} steps, "
            f"though by its own account that many take {limit} at most. Correct its evaluations_per_step."
        )


def collect(folder: Path, labels: torch.Tensor, progress: Progress) -> None:
    """Write all images as one file, and what they cost. Batches are mapped, so no more than a few are in memory.

    Raises :class:`UserError` where images are missing, as when the files of another process are not seen here yet.
    """
    batches = [batch for _, batch in undamaged(folder, KIND, progress.say)]
    places = {number: (batch, row) for batch in batches for row, number in enumerate(batch["numbers"].tolist())}
    if missing := sorted(set(range(len(labels))).difference(places)):
        raise UserError(
            f"{folder}: {len(missing)} of {len(labels)} images are not there, the first one number {missing[0]}: their "
            "files are damaged, or those of another process are not seen on this machine yet. Repeat the command, "
            "which makes those that are missing."
        )
    rows = (batch["images"][row] for batch, row in map(places.__getitem__, range(len(labels))))
    write_images(folder / IMAGES, rows, tuple(batches[0]["images"].shape[1:]), labels)
    spent = {name: torch.stack([batch[name] for batch in batches]) for name in SPENT}
    total = {name: each.sum().item() for name, each in spent.items()}
    counted = int(spent["flops_per_image"].argmax())  # the batch in which operations were
    evaluations = total["evaluations"] / len(labels)
    share = evaluations * len(batches[counted]["numbers"]) / (spent["evaluations"][counted].item() or math.inf)
    write_json(
        folder / GENERATE_SUMMARY,
        {
            "seconds": round(total["seconds"], 3),
            "network_evaluations_per_image": evaluations,
            "backward_passes_per_image": total["backward_passes"] / len(labels),
            "gflops_per_image": total["flops_per_image"] * share / 1e9,
            "peak_memory_mib": round(spent["peak_memory_mib"].max().item(), 1),
        },
    )
