"""The study stage: what a method finds out of the pretrained backbone and the data before it is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from grasp_bench.contracts.study import Study
from grasp_bench.io import write_json

if TYPE_CHECKING:
    from grasp_bench.run.pipeline import Pipeline

STUDY = "study.json"


def build(pipeline: Pipeline, folder: Path) -> None:
    """Let the method study, and leave in ``folder`` what it found."""
    spec, backbone = pipeline.plan.spec, pipeline.backbone.to(pipeline.device)
    study = Study(
        spec.task.name,
        pipeline.plan.task,
        spec.seed,
        backbone,
        pipeline.device,
        lambda: pipeline.data,
        lambda: pipeline.latents,
        lambda: pipeline.embed,
    )
    found = pipeline.plan.method.study(study)
    if pipeline.processes.is_first:
        write_json(folder / STUDY, found)


def read(folder: Path) -> dict[str, JsonValue]:
    """What :func:`build` left."""
    found: dict[str, JsonValue] = json.loads((folder / STUDY).read_text())
    return found
