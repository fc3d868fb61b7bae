"""What is told of a folder of images though nothing is wrong with it: on screen, and beside the record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from grasp_bench.contracts.progress import Progress
from grasp_bench.data.images import ImageSet
from grasp_bench.data.labels import look_alikes
from grasp_bench.io import write_json
from grasp_bench.text import some

Noted = Mapping[str, list[str]]
"""What is told, in words → names of files or classes."""


def noted_of(images: ImageSet, classes: Iterable[str]) -> dict[str, list[str]]:
    """Return which files of a folder were ignored, by reason, and which of ``classes`` look alike and are not."""
    found = {f"files ignored, {reason}": names for reason, names in images.ignored.items()}
    if alike := look_alikes(classes):
        found["class names that differ in their Unicode normal form alone"] = alike
    return found


def tell(root: Path, noted: Noted, progress: Progress) -> None:
    """Say what is noted of the data at ``root``: how many there are of each kind, and the first of them."""
    for what, names in noted.items():
        progress.say(f"{root}: {what} ({len(names)}): {some(names)}")


def write_noted(path: Path, noted: Noted, images: int, private: bool) -> None:
    """Write what is noted of a number of ``images`` as JSON; without names, which may be patients', if ``private``.

    It says when they were looked at, since ignored files are in no stage's key: what is found is kept with the stage,
    and tells nothing of files that come or go later.
    """
    counts = {what: len(names) for what, names in noted.items()}
    write_json(
        path,
        {
            "looked_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "images": images,
            "counts": counts,
            "names": {what: [] if private else names for what, names in noted.items()},
        },
    )
