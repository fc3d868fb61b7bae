"""The features stages: what the extractor sees in generated and in real images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from grasp_bench.checked import find_checked, load_checked, remove_checked, save_checked
from grasp_bench.contracts.extractor import Extractor, PretrainedExtractor
from grasp_bench.contracts.task import Split
from grasp_bench.data.features import FeatureSet, write_features
from grasp_bench.io import read_tensors
from grasp_bench.run.files import FEATURES

if TYPE_CHECKING:
    from grasp_bench.run.pipeline import Pipeline

AT_ONCE = 1000  # images that features are extracted of
PART = "part"


def build(pipeline: Pipeline, folder: Path, split: Split) -> None:
    """Leave the features of a split's images in ``folder``, in a file that ``grasp-bench score`` reads too."""
    features = _extract(pipeline, folder, split)
    pipeline.processes.wait()  # until all have read the parts
    if pipeline.processes.is_first:
        labels = [pipeline.classes[label].name for label in split.labels]
        found = FeatureSet(features, labels, split.ids, identity(pipeline.loaded_extractor))
        write_features(folder / FEATURES, found)
        remove_checked(folder, PART)


def identity(extractor: Extractor) -> dict[str, str] | None:
    """What the features depend on, where the extractor says it."""
    return extractor.identity if isinstance(extractor, PretrainedExtractor) else None


def _extract(pipeline: Pipeline, folder: Path, split: Split) -> np.ndarray:
    """Features (n, d) of a split, a part of which is in memory at a time; what is done stays in ``folder``."""
    processes, progress, extractor = pipeline.processes, pipeline.progress, pipeline.loaded_extractor
    parts = np.array_split(np.arange(len(split)), -(-len(split) // AT_ONCE))
    done = processes.first_says(
        lambda: [n for n, path in find_checked(folder, PART) if load_checked(path, progress.say)]
    )
    with progress.task("features", len(split), sum(len(parts[number]) for number in done)) as advance:
        for number in processes.share([number for number in range(len(parts)) if number not in done]):
            features = extractor.features(split.read(parts[number]))
            save_checked(folder, PART, number, {"features": torch.from_numpy(np.ascontiguousarray(features))})
            advance(len(parts[number]))
    processes.wait()
    return np.concatenate([read_tensors(path)["features"].numpy() for _, path in find_checked(folder, PART)])
