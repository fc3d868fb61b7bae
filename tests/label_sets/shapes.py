"""Folder tasks whose images have several labels: a generated one, whose pixels show them, and real X-rays."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("bar", "dot_big", "ring")
SETS = {("bar",): 30, ("bar", "dot_big"): 15, ("dot_big",): 9, ("bar", "ring"): 6, ("ring", "dot_big"): 6}
"""Labels → images; alone or with others 51 have bar, 30 dot_big and 12 ring."""
SHARED = Path(__file__).parents[2] / ".." / "shared" / "data" / "nih-mini"
"""1,000 real X-rays with all of their findings, which are not part of the repository."""
PLACES = dict(zip(NAMES, (2, 7, 12), strict=True))


def write_shapes(folder: Path, form: str = "list", lines: str = "") -> Path:
    """Write shapes.toml, labels.csv in the form "list" or "columns", and images, of which a third is for each split.

    Every three images that follow each other are of one patient.
    """
    random, images = np.random.default_rng(0), folder / "images"
    images.mkdir(parents=True)
    labels = [each for each, count in SETS.items() for _ in range(count)]
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *(["label"] if form == "list" else NAMES), "split", "patient"])
        for number, each in enumerate(labels):
            pixels = random.integers(0, 90, (16, 16, 3), np.uint8)
            for name in each:
                pixels[:, PLACES[name]] = 250
            Image.fromarray(pixels).save(images / f"{number:03}.png")
            split = ("train", "validation", "test")[number // 3 % 3]
            cells = [" | ".join(each)] if form == "list" else [int(name in each) for name in NAMES]
            writer.writerow([f"{number:03}.png", *cells, split, f"p{number // 3}"])
    several = 'label_separator = "|"' if form == "list" else f"label_columns = {list(NAMES)}"
    (folder / "shapes.toml").write_text(
        f'name = "shapes"\nlabels = "labels.csv"\nsplit_column = "split"\nextractor = "pixels"\n{several}\n'
        f"head_above = 12\ntail_below = 7\n{lines}"
    )
    return folder / "shapes.toml"


def write_nih_mini(folder: Path) -> Path:
    """Write the real X-rays as a folder task: nih-mini.toml, labels.csv, images."""
    with (SHARED / "manifest.csv").open() as file:
        listed = list(csv.DictReader(file))
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label", "patient"])
        writer.writerows([row["id"], row["finding_labels"], row["patient_id"]] for row in listed)
    shutil.copytree(SHARED / "images", folder / "images")
    toml = folder / "nih-mini.toml"
    toml.write_text(
        'labels = "labels.csv"\npatient_column = "patient"\nlabel_separator = "|"\nextractor = "pixels"\n'
        'prompt = "a chest X-ray showing {class}"\nhead_above = 60\ntail_below = 20\n'
    )
    return toml
