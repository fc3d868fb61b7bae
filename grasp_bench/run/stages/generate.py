"""The generate stage: images of every class from the fine-tuned backbone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from grasp_bench.checked import remove_checked
from grasp_bench.run.context import Context, Inputs, Stage
from grasp_bench.run.files import GENERATE_SUMMARY
from grasp_bench.run.plan import Plan


def _inputs(plan: Plan, upstream: Mapping[str, str]) -> Inputs:
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
    if not processes.first_says((folder / GENERATE_SUMMARY).exists):
        plan.guidance.prepare(context.workshop(), upstream.get("guide"))
        sampler, precision = context.sampler, plan.trained_on.spec.budget.precision
        with quick_products(precision, context.device):
            generate(plan.spec, _sampled_with(plan), sampler, folder, batch_size, processes, context.progress)
        del sampler
        del context.sampler  # second networks take memory
    if processes.is_first:
        remove_checked(folder, KIND)


def _sampled_with(plan: Plan) -> list[tuple[str, int]]:
    """Return every class's prompt and index, where there is a generator those of its class that stands for it."""
    if not plan.generator:
        return [(info.prompt, index) for index, info in enumerate(plan.task.classes())]
    known = plan.generator.task
    infos, indices = known.classes(), plan.task.generator_classes(known)
    return [(infos[index].prompt, index) for index in indices]


STAGE = Stage("generate", 1, ("prepare", "prompts", "train", "guide"), _inputs, _build)
