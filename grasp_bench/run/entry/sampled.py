"""Images of a function, as a folder of PNG files: what is evaluated is then the same wherever images come from."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from grasp_bench.contracts.entry import Entry
from grasp_bench.contracts.progress import Progress
from grasp_bench.errors import UserError
from grasp_bench.io import writing
from grasp_bench.run.entry.evaluate import Table
from grasp_bench.run.entry.names import folder_names


@contextmanager
def sampled(
    images: str | os.PathLike[str] | Callable[[str, str, int, int], Any],
    table: Table,
    work_dir: Path,
    progress: Progress,
) -> Iterator[Path]:
    """Yield a folder as it is, or one in the work folder that what a function returns is kept in for the block.

    The function is called once per class with its prompt, its name, the number of images and the seed. Raises
    :class:`UserError` for anything but that many images, and where images have several labels.
    """
    if not callable(images):
        yield Path(images)
        return
    plan = table.plan(Entry("sampled", {}))
    if plan.task.multilabel:
        raise UserError(
            f"task {plan.spec.task.name}: its images have several labels, and a function is asked for one class at a "
            "time. Write the images into a folder, and give it with a labels file."
        )
    classes, each = plan.task.classes(), plan.spec.budget.images_per_class
    with writing(work_dir):
        work_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sampled-", dir=work_dir) as name:
        with progress.task("generate", len(classes) * each) as advance:
            for info, folder in zip(classes, folder_names(classes), strict=True):
                found = images(info.prompt, info.name, each, table.seed)
                _save(Path(name, folder), info.name, found, each)
                advance(each)
        yield Path(name)


def _save(folder: Path, name: str, images: Any, each: int) -> None:
    """Save an array, or pictures of Pillow's, as PNG."""
    from PIL import Image

    found = list(images)
    if len(found) != each:
        raise UserError(f"class {name!r}: the function returned {len(found)} images, expected {each}.")
    folder.mkdir()
    for number, image in enumerate(found):
        try:
            picture = image if isinstance(image, Image.Image) else Image.fromarray(_array(image))
            picture.save(folder / f"{number:06}.png")
        except (TypeError, ValueError, OSError, AttributeError) as error:
            raise UserError(
                f"class {name!r}: image {number} is no picture of Pillow's and no array in uint8 of (H, W) or "
                f"(H, W, 3): {error}."
            ) from error


def _array(image: Any) -> Any:
    """Return an image as an array in uint8. Raises TypeError for one of another type."""
    import numpy as np

    found = np.asarray(image)
    if found.dtype != np.uint8:
        raise TypeError(f"it is of {found.dtype}")
    return found[..., 0] if found.ndim == 3 and found.shape[-1] == 1 else found
