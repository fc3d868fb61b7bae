"""The guide stage: what a guidance learns from the fine-tuned network before sampling."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from grasp_bench.run.context import Context, Inputs, Stage
from grasp_bench.run.plan import Plan


def _inputs(plan: Plan, upstream: Mapping[str, str]) -> Inputs | None:
    if not plan.guidance.learns:
        return None
    return {
        "prepare": upstream["prepare"],
        "shape": plan.shape,
        "train": upstream["train"],
        "guidance": plan.spec.guidance.model_dump(mode="json"),
        "num_inference_steps": plan.guidance.steps(plan.spec.budget),
    }


def _build(context: Context, folder: Path, upstream: Mapping[str, Path]) -> None:
    from grasp_bench.precision import quick_products

    workshop = context.workshop()
    _ = workshop.data()  # a stage of its own, which the first process may not open alone
    precision = context.plan.trained_on.spec.budget.precision
    with context.processes.apart(folder):
        if context.processes.is_first:
            with quick_products(precision, context.device):
                context.plan.guidance.learn(workshop, folder)


STAGE = Stage("guide", 1, ("prepare", "prompts", "train"), _inputs, _build, compared=False)
