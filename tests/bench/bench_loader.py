"""How long a training step waits for its images, read from a cache of resized ones.

``PYTHONPATH=tests python -m bench.bench_loader`` writes results/perf/loader.json and takes about a minute on two cores.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.contracts.task import Split
from grasp_bench.data import manifest
from grasp_bench.data.cache import PixelReader, build_cache
from grasp_bench.data.images import WORKERS
from grasp_bench.data.listing import Entry
from grasp_bench.run.encoded import KnownPrompts, Pixels
from grasp_bench.run.plan import plan
from grasp_bench.run.training.batches import Batches

from .recording import RESULTS, Measure, record

IMAGES = 5_000
SIDE = 128  # pixels of a file before it is resized
STEPS = 60
WARM_UP = 10


def split(folder: Path, cached: bool) -> Split:
    """Noise in PNGs, read from a cache or from the files."""
    root, work = folder / "data", folder / "work"
    entries = [Entry(str(n), f"{n:05}.png", "class", "train", f"list.csv, line {n + 2}") for n in range(IMAGES)]
    if not root.exists():
        root.mkdir()
        work.mkdir()
        pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, SIDE, SIDE), dtype=np.uint8)
        for entry, image in zip(entries, pixels, strict=True):
            Image.fromarray(image).save(root / entry.path)
        manifest.build(root, entries, {"class": "head"}, {"class": "a photo"}, work, WORKERS, lambda count: None)
    found = manifest.read(work)
    cache = (
        build_cache(root, found, TinySD3.image_shape, work / "cache", WORKERS, lambda count: None) if cached else None
    )
    reader = PixelReader(root, found, TinySD3.image_shape, cache)
    return Split([entry.id for entry in entries], np.zeros(IMAGES, np.int64), ["a photo"] * IMAGES, reader.read)


def wait(folder: Path, cached: bool) -> dict[str, float]:
    """Seconds of a step of full fine-tuning at batch 64, and of its wait for its batch; medians."""
    chosen = plan(method="vanilla-ft", task="digits-lt")
    backbone = TinySD3.load()
    backbone.transformer.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(backbone.transformer.parameters(), 1e-3)
    images = split(folder, cached)
    prompts = KnownPrompts(["", *images.prompts], backbone)
    batches = Batches(chosen.spec, images, backbone, Pixels(images, backbone), prompts, torch.device("cpu"), None)
    waited, steps = [], []
    for step in range(STEPS):
        started = time.perf_counter()
        batch = batches(step)
        waited.append(time.perf_counter() - started)
        prediction = backbone.predict(batch.noisy, batch.condition.timesteps, batch.condition.prompts)
        (prediction - batch.target).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        steps.append(time.perf_counter() - started)
    return {"step": statistics.median(steps[WARM_UP:]), "waited": statistics.median(waited[WARM_UP:])}


def main() -> None:
    """Measure and write."""
    with tempfile.TemporaryDirectory() as folder:
        cached, files = (wait(Path(folder), each) for each in (True, False))
    measure = Measure(
        name="wait for a batch of images from the cache, as a share of a step of tiny-sd3",
        value=cached["waited"] / cached["step"],
        unit="",
        at_most=0.03,
        method=(
            f"Medians of {STEPS - WARM_UP} steps of full fine-tuning, batch 64, after {WARM_UP} to warm up. Beside it "
            f"the same without a cache, from PNGs of {SIDE} by {SIDE} pixels. The next step's batch is made in the "
            "background in both."
        ),
        details={"cache_seconds": cached, "files_seconds": files, "files_share": files["waited"] / files["step"]},
    )
    record("loader", [measure], ["pillow", "pyarrow"], RESULTS)


if __name__ == "__main__":
    main()
