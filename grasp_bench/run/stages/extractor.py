"""The extractor stages, one for each of the task's extractors: its weights, trained or identified."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from grasp_bench.contracts.extractor import MOST
from grasp_bench.run.context import Context, Inputs, Stage, numbered
from grasp_bench.run.plan import Plan


def _inputs(plan: Plan, upstream: Mapping[str, str], position: int) -> Inputs | None:
    if position >= len(plan.extractors):
        return None
    chosen = plan.extractors[position]
    return {
        "prepare": upstream["prepare"],
        "shape": plan.shape,
        "name": chosen.name,
        "version": chosen.kind.version,
    }


def _build(context: Context, folder: Path, upstream: Mapping[str, Path], position: int) -> None:
    context.plan.extractors[position].build(context.data, len(context.classes), folder)


STAGES = tuple(
    Stage(
        numbered("extractor", position),
        1,
        ("prepare",),
        partial(_inputs, position=position),
        partial(_build, position=position),
        alone=True,
    )
    for position in range(MOST)
)
