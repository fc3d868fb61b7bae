"""The classify stages: classifiers trained on generated, real and topped-up images, and what they say of real ones."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from grasp_bench.contracts.task import Dataset, Split
from grasp_bench.downstream import classifier
from grasp_bench.downstream.sources import topped_up
from grasp_bench.io import read_tensors, write_tensors
from grasp_bench.run.files import PROBABILITIES

if TYPE_CHECKING:
    from grasp_bench.run.pipeline import Pipeline

STAGES = {"generated": "classify-generated", "real": "classify-real", "topped-up": "classify-topped-up"}
"""What classifiers are trained on → the stage."""


def tested_on(data: Dataset) -> dict[str, Split]:
    """What classifiers are tested on."""
    return {"test": data.test} | ({"balanced-test": data.balanced_test} if data.balanced_test else {})


def probabilities(pipeline: Pipeline) -> dict[str, dict[str, np.ndarray]]:
    """Source → test set → what classifiers trained on it say of its images: (classifiers, n, classes)."""
    real, generated = pipeline.data.train, pipeline.images
    sources = {"generated": generated, "real": real, "topped-up": topped_up(real, generated, len(pipeline.classes))}
    found = {}
    for source, stage in STAGES.items():
        made = pipeline.shared(stage, partial(_build, source=source, images=sources[source]))
        tensors = read_tensors(made / PROBABILITIES)
        found[source] = {name: each.numpy() for name, each in tensors.items()}
    return found


def _build(pipeline: Pipeline, folder: Path, source: str, images: Split) -> None:
    """Train classifiers on ``images`` and keep what they say of the test images."""
    recipe, spec, processes = pipeline.plan.recipe, pipeline.plan.spec, pipeline.processes
    finished = [folder / f"classifier-{number}.safetensors" for number in range(recipe.seeds)]
    with pipeline.progress.task(f"classify ({source})", recipe.seeds * recipe.epochs) as advance:
        for number in processes.share(range(recipe.seeds)):
            path = finished[number]
            if path.exists():
                advance(recipe.epochs)
                continue
            model = classifier.train(
                images,
                pipeline.data.validation,
                len(pipeline.classes),
                recipe,
                (spec.task.name, spec.seed, source, number),
                folder / str(number),
                pipeline.device,
                advance,
                pipeline.progress.say,
            )
            found = {
                name: torch.from_numpy(classifier.probabilities(model, test, recipe, pipeline.device))
                for name, test in tested_on(pipeline.data).items()
            }
            write_tensors(path, found)
    processes.wait()
    if not processes.is_first:
        return
    each = [read_tensors(path) for path in finished]
    write_tensors(folder / PROBABILITIES, {name: torch.stack([one[name] for one in each]) for name in each[0]})
    for path in finished:
        path.unlink()
