"""The extractor stage: the feature extractor's weights, trained or fetched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from grasp_bench.run.context import Context, Inputs, Stage
from grasp_bench.run.plan import Plan


def _inputs(plan: Plan, upstream: Mapping[str, str]) -> Inputs:
    return {
        "prepare": upstream["prepare"],
        "shape": plan.shape,
        "name": plan.task.extractor,
        "version": plan.extractor.version,
    }


def _build(context: Context, folder: Path, upstream: Mapping[str, Path]) -> None:
    context.plan.extractor.build(context.data, len(context.classes), folder)


STAGE = Stage("extractor", 1, ("prepare",), _inputs, _build, alone=True)
