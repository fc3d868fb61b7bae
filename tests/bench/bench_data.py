"""How long the check of a download takes beside opening its images, and how long its manifest takes to load.

``PYTHONPATH=tests python -m bench.bench_data`` writes results/perf/data.json and takes about a minute on two cores;
``--rows`` sets the number of images that are checked, for which fewer than 20,000 are only a trial.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from grasp_bench.data import manifest
from grasp_bench.data.check import CHUNK, check_images
from grasp_bench.data.listing import Entry

from .recording import RESULTS, TRIALS, Measure, interleaved, record

ROWS = 20_000
MANIFEST_ROWS = 115_846  # of the largest task, ImageNet-LT's training split
IMAGES_A_FOLDER = 100
SIDE = 16  # pixels: small images, so that what is added to opening them weighs the most
WORKERS = 2
REPEATS = 7
LISTED = pa.schema(
    {
        "id": pa.string(),
        **dict.fromkeys(("label", "group", "prompt", "patient", "split"), manifest.NAMES),
        "where": pa.string(),
    }
)
"""Columns of a manifest that come from the task and its label files."""


def write_images(root: Path, rows: int) -> list[Entry]:
    """Greyscale PNGs of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (rows, SIDE, SIDE), dtype=np.uint8)
    entries = []
    for number, image in enumerate(pixels):
        path = f"train/{number // IMAGES_A_FOLDER:05}/{number:07}.png"
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / path)
        entries.append(Entry(str(number), path, "class", "train", f"list.csv, line {number + 2}"))
    return entries


def check(rows: int) -> Measure:
    """The check of a download against opening its images and doing nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        entries = write_images(root, rows)
        calls = {
            "ours": lambda: check_images(root, entries, WORKERS, lambda count: None),
            "open": lambda: open_all([f"{folder}/{entry.path}" for entry in entries]),
        }
        if problems := calls["ours"]():  # also warms up
            raise RuntimeError(f"images that are in order are refused: {problems[0]}")
        seconds = interleaved(calls, REPEATS)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return Measure(
        name=f"check of {rows:,} images: our time over that of Image.open alone",
        value=medians["ours"] / medians["open"],
        unit="times",
        at_most=1.15,
        method=(
            f"Medians of {REPEATS} interleaved repeats after one to warm up, with {WORKERS} threads each, on PNGs of "
            f"{SIDE} by {SIDE} pixels in folders of {IMAGES_A_FOLDER}, in the system's cache. Image.open gets its "
            f"paths {CHUNK} at a time, as ours does: one at a time it is slower."
        ),
        details={
            "seconds": seconds,
            "median_seconds": medians,
            "images_per_second": {name: rows / each for name, each in medians.items()},
        },
    )


def open_all(paths: list[str]) -> None:
    """Read the header of every image."""

    def open_some(start: int) -> None:
        for path in paths[start : start + CHUNK]:
            Image.open(path).close()

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(open_some, range(0, len(paths), CHUNK)))


def load(rows: int) -> Measure:
    """Reading a manifest, and making arrays of what a task asks for."""
    with tempfile.TemporaryDirectory() as folder:
        manifest._write(Path(folder) / manifest.NAME, random_table(rows))

        def open_manifest() -> None:
            found = manifest.read(Path(folder))
            for name in found.split_names:
                found.split(name)
            for column in (
                found.column("path"),
                found.column("label"),
                found.column("prompt"),
                found.column("patient"),
            ):
                if len(column) != rows:
                    raise RuntimeError(f"{len(column)} of {rows} rows were read")

        seconds = interleaved({"load": open_manifest}, REPEATS)["load"]
        size = (Path(folder) / manifest.NAME).stat().st_size
    return Measure(
        name=f"manifest of {rows:,} rows: time to load",
        value=max(seconds),
        unit="s",
        at_most=1,
        method=(
            f"The slowest of {REPEATS}, the first included; with the rows of every split, and the paths, labels, "
            "prompts and patients as arrays."
        ),
        details={"seconds": seconds, "bytes": size},
    )


def random_table(rows: int) -> pa.Table:
    """A manifest's columns with 1,000 classes, and as many different paths, hashes and patients as in real data."""
    stream = np.random.default_rng(0)
    classes = stream.integers(0, 1_000, rows)
    paths = [f"train/n{label:08}/n{label:08}_{row}.JPEG" for row, label in enumerate(classes)]
    columns = {
        "path": paths,
        "width": stream.integers(200, 3_000, rows),
        "height": stream.integers(200, 3_000, rows),
        "bytes": stream.integers(10_000, 10_000_000, rows),
        "sha256": [stream.bytes(32).hex() for _ in range(rows)],
        "id": [Path(path).stem for path in paths],
        "label": [f"class {label}" for label in classes],
        "group": [("head", "medium", "tail")[label % 3] for label in classes],
        "prompt": [f"a photo of a class {label}" for label in classes],
        "patient": [f"p{row // 3}" for row in range(rows)],
        "split": [("train", "validation", "test")[number] for number in stream.integers(0, 3, rows)],
        "where": [f"ImageNet_LT_train.txt, line {row + 1}" for row in range(rows)],
    }
    fields = [*manifest.FACTS, *LISTED]
    schema = pa.schema(fields, metadata={"format": manifest.FORMAT, "fingerprint": "0" * 64})
    return pa.table([pa.array(columns[field.name]).cast(field.type) for field in fields], schema=schema)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="bench.bench_data", description="Time the check and the manifest.")
    parser.add_argument("--rows", type=int, default=ROWS, help=f"images to check (default {ROWS:,})")
    rows = parser.parse_args().rows
    measures = [check(rows), load(MANIFEST_ROWS)]
    record("data", measures, ["pillow", "pyarrow"], RESULTS if rows >= ROWS else TRIALS)


if __name__ == "__main__":
    main()
