"""Images of an entry that are generated here: batch by batch, brought to size, kept where the work is interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from grasp_bench.checked import save_checked, undamaged
from grasp_bench.contracts.entry import Found, Request
from grasp_bench.data.decode import resize
from grasp_bench.run.entry.images import fit_of

Images = Callable[[list[int]], Sequence[np.ndarray]]
"""Numbers of images → these images, uint8 (C, H, W) of any size."""


def generate(request: Request, folder: Path, images: Images) -> Found:
    """Leave every image that is asked for in ``folder``, in batches that an interruption does not lose."""
    from grasp_bench.run.generation import KIND, collect, in_batches

    _, labels = request.sampled()
    make = partial(_batch, images, request, folder)
    in_batches(len(labels), make, folder, request.batch_size, request.processes, request.progress)
    batches = [batch for _, batch in undamaged(folder, KIND, request.progress.say)]
    if request.processes.is_first:
        collect(folder, labels, request.progress)
    return Found(
        images=len(labels),
        scored=len(labels),
        resized=sum(int(batch["resized"]) for batch in batches),
        repeated=0,
        seconds=round(sum(float(batch["seconds"]) for batch in batches), 3),
    )


def _batch(images: Images, request: Request, folder: Path, numbers: list[int]) -> int:
    """Generate the images of those ``numbers``, leave them in ``folder``, and return how many they are."""
    import torch

    from grasp_bench.run.generation import KIND, SPENT

    started = time.perf_counter()
    made = images(numbers)
    fitted = [resize(image, request.shape, fit_of(request.task)) for image in made]
    spent = dict.fromkeys(SPENT, 0.0) | {"seconds": time.perf_counter() - started}
    resized = sum(image.shape[1:] != request.shape[1:] for image in made)
    batch = {name: torch.tensor(value, dtype=torch.float64) for name, value in spent.items()}
    batch |= {"numbers": torch.tensor(numbers), "resized": torch.tensor(resized)}
    save_checked(folder, KIND, numbers[0], batch | {"images": torch.from_numpy(np.stack(fitted))})
    return len(numbers)
