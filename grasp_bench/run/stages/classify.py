"""The classify stages: classifiers trained on generated, real and topped-up images, and their predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from grasp_bench.contracts.progress import Advance
from grasp_bench.contracts.task import ClassifierRecipe, Dataset, Split
from grasp_bench.io import read_tensors, remove, write_tensors
from grasp_bench.run.context import Context, Inputs, Stage
from grasp_bench.run.files import PROBABILITIES
from grasp_bench.run.plan import Plan
from grasp_bench.run.stages import pixels

if TYPE_CHECKING:
    import torch

SOURCES = {"generated": "classify-generated", "real": "classify-real", "topped-up": "classify-topped-up"}
"""What classifiers are trained on → the stage that keeps their predictions for test images."""


def tested_on(data: Dataset) -> dict[str, Split]:
    """Return the test sets of classifiers."""
    return {"test": data.test} | ({"balanced-test": data.balanced_test} if data.balanced_test else {})


def _inputs(plan: Plan, upstream: Mapping[str, str]) -> Inputs:
    # the stage generate refers to the seed
    seed: Inputs = {} if "generate" in upstream else {"seed": plan.spec.seed}
    return {**upstream, "shape": plan.shape, "recipe": _recipe(plan.recipe)} | seed


def _recipe(recipe: ClassifierRecipe) -> JsonValue:
    """Return what decides a classifier but its data, as JSON."""
    described: Inputs = vars(recipe) | {"augmentation": list(recipe.augmentation)}
    if recipe.initial:
        described["weights"] = _weights(recipe.network, recipe.initial)
    else:
        del described["initial"]  # which recipes did not have at first
    return described


def _weights(network: str, tag: str) -> str:
    """Return the sha256 of the file of weights that classifiers start from; where it is missing, no run goes on."""
    from grasp_bench.downstream.networks import TIMM
    from grasp_bench.io import file_digest
    from grasp_bench.weights import timm_file

    path = timm_file(network.removeprefix(TIMM), tag)
    return file_digest(path) if path.is_file() else "missing"


def _as_read(context: Context, upstream: Mapping[str, Path]) -> tuple[Dataset, Callable[[], Split]]:
    """Return the task's data, and what opens the generated images, as classifiers read both."""
    if "pixels" not in upstream:
        return context.data, lambda: context.images
    side = pixels.side(context.plan)
    return pixels.cached(context.data, upstream["pixels"]), lambda: pixels.at_side(context.images, side)


def _images(data: Dataset, generated: Callable[[], Split], classes: int, source: str) -> Split:
    from grasp_bench.downstream.classifier import topped_up

    if source == "real":
        return data.train
    if source == "generated":
        return generated()
    return topped_up(data.train, generated(), classes)


def _build(context: Context, folder: Path, upstream: Mapping[str, Path], source: str) -> None:
    """Train classifiers on a source's images, and leave their predictions on the test images."""
    import torch

    recipe, processes = context.plan.recipe, context.processes
    finished = [folder / f"classifier-{number}.safetensors" for number in range(recipe.seeds)]
    data, generated = _as_read(context, upstream)
    images = _images(data, generated, len(context.classes), source)
    shown = context.progress.task(f"classify ({source})", recipe.seeds * recipe.epochs)
    with shown as advance, processes.apart(folder):
        for number in processes.share(range(recipe.seeds)):
            if finished[number].exists():
                advance(recipe.epochs)
            else:
                write_tensors(finished[number], _predictions(context, folder, data, images, source, number, advance))
    if processes.is_first:
        each = [read_tensors(path) for path in finished]
        write_tensors(folder / PROBABILITIES, {name: torch.stack([one[name] for one in each]) for name in each[0]})
        for path in finished:
            remove(path)


def _predictions(
    context: Context, folder: Path, data: Dataset, images: Split, source: str, number: int, advance: Advance
) -> dict[str, torch.Tensor]:
    """Return test set → probabilities (n, classes) of one classifier that is trained on ``images``."""
    import torch

    from grasp_bench.downstream import classifier, label_sets

    recipe, spec = context.plan.recipe, context.plan.spec
    model = classifier.train(
        images,
        data.validation,
        len(context.classes),
        recipe,
        (spec.task.name, spec.seed, source, number),
        folder / str(number),
        context.device,
        advance,
        context.progress.say,
    )
    how = (recipe, context.device, context.progress.say)
    return {
        name: torch.from_numpy(
            classifier.probabilities(model, test, *how)
            if test.sets is None
            else label_sets.label_probabilities(model, test, data.validation, *how)
        )
        for name, test in tested_on(data).items()
    }


def _stage(source: str) -> Stage:
    after = ("prepare", "pixels") if source == "real" else ("prepare", "pixels", "generate")
    return Stage(SOURCES[source], 2, after, _inputs, partial(_build, source=source))


STAGES = tuple(map(_stage, SOURCES))
