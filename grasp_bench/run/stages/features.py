"""The features stages, for each of the task's extractors: what it sees in generated, test and training images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from grasp_bench.checked import find_checked, remove_checked, save_checked, undamaged
from grasp_bench.contracts.extractor import MOST, Extractor, PretrainedExtractor
from grasp_bench.contracts.task import Split
from grasp_bench.io import read_tensors
from grasp_bench.run.context import Context, Inputs, Stage, numbered
from grasp_bench.run.files import FEATURES
from grasp_bench.run.plan import Plan

if TYPE_CHECKING:
    import torch

AT_ONCE = 1000  # images whose features are extracted at a time
PART = "part"


def _inputs(plan: Plan, upstream: Mapping[str, str], position: int) -> Inputs | None:
    extractor = upstream.get(numbered("extractor", position))
    if extractor is None:
        return None
    if "generate" in upstream:  # that stage refers to the data and the shape
        return {"generate": upstream["generate"], "extractor": extractor}
    return {"prepare": upstream["prepare"], "extractor": extractor, "shape": plan.shape}


def _build(
    context: Context,
    folder: Path,
    upstream: Mapping[str, Path],
    images: Callable[[Context], Split],
    position: int,
    what: str,
) -> None:
    """Leave the features of images in ``folder``, in a file that ``grasp-bench score`` reads too."""
    import numpy as np

    from grasp_bench.data.features import FeatureSet, write_features

    split, extractor = images(context), context.extractors[position]
    _extract(context, folder, split, extractor, what)
    if context.processes.is_first:
        features = np.concatenate([read_tensors(path)["features"].numpy() for _, path in find_checked(folder, PART)])
        labels = [context.classes[label].name for label in split.labels]
        write_features(folder / FEATURES, FeatureSet(features, labels, split.ids, identity(extractor)))
        remove_checked(folder, PART)


def identity(extractor: Extractor) -> dict[str, str] | None:
    """Return what the features depend on, where the extractor says it."""
    return extractor.identity if isinstance(extractor, PretrainedExtractor) else None


@contextmanager
def on_device(extractor: Extractor, device: torch.device) -> Iterator[Extractor]:
    """Keep an extractor on the device inside the block only: it is loaded long before, and takes memory there."""
    if not isinstance(extractor, PretrainedExtractor):
        yield extractor
        return
    try:
        yield extractor.to(str(device))
    finally:
        extractor.to("cpu")


def _extract(context: Context, folder: Path, split: Split, chosen: Extractor, what: str) -> None:
    """Leave the features of a split in ``folder``, in parts (n, d), of which one is in memory at a time."""
    import numpy as np
    import torch

    from grasp_bench.memory import Portion

    processes, progress = context.processes, context.progress
    parts = np.array_split(np.arange(len(split)), -(-len(split) // AT_ONCE))
    portion = Portion(AT_ONCE, "images' features are extracted", progress.say)
    done = processes.first_says(lambda: [number for number, _ in undamaged(folder, PART, progress.say)])
    with (
        on_device(chosen, context.device) as extractor,
        progress.task(what, len(split), sum(len(parts[number]) for number in done)) as advance,
        processes.apart(folder),
    ):
        for number in processes.share([number for number in range(len(parts)) if number not in done]):
            features = np.concatenate(list(portion.over(split.read(parts[number]), extractor.features)))
            save_checked(folder, PART, number, {"features": torch.from_numpy(features)})
            advance(len(parts[number]))


IMAGES: dict[str, tuple[str, Callable[[Context], Split]]] = {
    "features": ("generated", lambda context: context.images),
    "features-real": ("test", lambda context: context.data.test),
    "features-train": ("training", lambda context: context.data.train),
}
"""Stage of the first extractor → what the images are called whose features it keeps, and the images."""


def _stage(name: str, position: int) -> Stage:
    after = ("prepare", numbered("extractor", position), *(("generate",) if name == "features" else ()))
    words, images = IMAGES[name]
    build = partial(_build, images=images, position=position, what=f"features of {words} images")
    inputs = partial(_inputs, position=position)
    return Stage(numbered(name, position), 2, after, inputs, build)


STAGES = tuple(_stage(name, position) for position in range(MOST) for name in IMAGES)
