"""The generate stage: images of every class from the fine-tuned backbone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from grasp_bench.checked import remove_checked
from grasp_bench.contracts.entry import VERSION, Entry, Request
from grasp_bench.errors import UserError
from grasp_bench.io import write_json
from grasp_bench.run.context import Context, Inputs, Stage
from grasp_bench.run.files import GENERATE_SUMMARY
from grasp_bench.run.plan import Plan

if TYPE_CHECKING:
    import torch


def _inputs(plan: Plan, upstream: Mapping[str, str]) -> Inputs:
    if plan.entry:
        return {
            "prepare": upstream["prepare"],
            "shape": plan.shape,
            "seed": plan.spec.seed,
            "images_per_class": plan.spec.budget.images_per_class,
            "entry": {"version": VERSION, **plan.entry.settings},
        }
    images, steps = plan.spec.budget.images_per_class, plan.guidance.steps(plan.spec.budget)
    budget: JsonValue = {"images_per_class": images, "num_inference_steps": steps}
    # without a generator, the stage train refers to the data
    named = ("train", "guide", "prepare") if plan.generator else ("train", "guide")
    keys: Inputs = {name: upstream[name] for name in named if name in upstream}
    return keys | {"guidance": plan.spec.guidance.model_dump(mode="json"), "budget": budget}


def _build(context: Context, folder: Path, upstream: Mapping[str, Path]) -> None:
    """Leave in ``folder`` the images, and none of the batches that they were made in."""
    from grasp_bench.precision import quick_products
    from grasp_bench.run.generation import KIND, generate

    plan, processes, batch_size = context.plan, context.processes, context.options.batch_size
    if plan.entry:
        _enter(context, plan.entry, folder)
        return
    if not processes.first_says((folder / GENERATE_SUMMARY).exists):
        plan.guidance.prepare(context.workshop(), upstream.get("guide"))
        sampler, precision = context.sampler, plan.trained_on.spec.budget.precision
        with quick_products(precision, context.device):
            subjects, labels = _sampled_with(context)
            generate(plan.spec, subjects, labels, sampler, folder, batch_size, processes, context.progress)
        del sampler
        del context.sampler  # second networks take memory
    if processes.is_first:
        remove_checked(folder, KIND)


def _enter(context: Context, entry: Entry, folder: Path) -> None:
    """Leave in ``folder`` the images of an entry of the open division, and what was found of them."""
    from grasp_bench.run.generation import KIND
    from grasp_bench.run.stages.digests import by_digest

    if entry.make is None:
        raise UserError(f"the images of {entry.name} are not here: `grasp-bench evaluate` is given them.")
    plan = context.plan
    request = Request(
        plan.spec,
        plan.task,
        plan.backbone.image_shape,
        context.device,
        context.options.batch_size,
        cache(partial(_sampled_with, context)),
        lambda: by_digest(context.folder("digests")),
        context.processes,
        context.progress,
    )
    found = entry.make(request, folder)
    if context.processes.is_first:
        write_json(folder / GENERATE_SUMMARY, found.model_dump(mode="json"))
        remove_checked(folder, KIND)


def _sampled_with(context: Context) -> tuple[list[tuple[str, int]], torch.Tensor]:
    """Return every image's prompt and class as the generator knows it, and the classes (n,) of the images."""
    import torch

    plan, each = context.plan, context.plan.spec.budget.images_per_class
    infos = plan.task.classes()
    indices = list(range(len(infos)))
    labels = torch.arange(len(infos)).repeat_interleave(each)
    if context.drawn is not None:
        train = context.data.train
        classes = torch.from_numpy(train.labels[context.drawn])
        subjects = [(train.prompts[row], int(label)) for row, label in zip(context.drawn, classes, strict=True)]
        return subjects, labels if plan.task.label_sets == "focus" else classes
    if plan.generator:
        infos, indices = plan.generator.task.classes(), plan.task.generator_classes(plan.generator.task)
    return [(infos[index].prompt, index) for index in indices for _ in range(each)], labels


STAGE = Stage("generate", 1, ("prepare", "digests", "prompts", "train", "guide"), _inputs, _build)
