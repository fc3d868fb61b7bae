"""The study stage: what a method finds out about the pretrained backbone and the data before it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from grasp_bench.io import write_json
from grasp_bench.run.context import Context, Inputs, Stage
from grasp_bench.run.files import STUDY
from grasp_bench.run.plan import Plan

AFTER = ("prepare", "latents", "prompts")


def trained_parts(plan: Plan, upstream: Mapping[str, str]) -> Inputs:
    """Return what decides a training beside its budget: the data, the method and the backbone."""
    return {
        **upstream,
        "method": plan.spec.method.model_dump(mode="json"),
        "backbone": plan.spec.backbone.model_dump(mode="json"),
        "seed": plan.spec.seed,
    }


def _inputs(plan: Plan, upstream: Mapping[str, str]) -> Inputs | None:
    if not plan.method.studies:
        return None
    precision = plan.spec.budget.precision
    return trained_parts(plan, upstream) | ({} if precision == "float32" else {"precision": precision})


def _build(context: Context, folder: Path, upstream: Mapping[str, Path]) -> None:
    found = context.plan.method.study(context.study())
    if context.processes.is_first:
        write_json(folder / STUDY, found)


STAGE = Stage("study", 1, AFTER, _inputs, _build, compared=False, of_training=True)
