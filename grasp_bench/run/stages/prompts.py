"""The prompts stage: the text encoders' embeddings of every prompt, computed once for every method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from grasp_bench.run.context import Context, Inputs, Stage
from grasp_bench.run.plan import Plan


def _inputs(plan: Plan, upstream: Mapping[str, str]) -> Inputs | None:
    text_encoder = plan.backbone.description.text_encoder
    return {"prepare": upstream["prepare"], "text_encoder": text_encoder} if text_encoder else None


def _build(context: Context, folder: Path, upstream: Mapping[str, Path]) -> None:
    from grasp_bench.run.encoded import encode_prompts

    backbone = context.backbone.encode_on(context.device)
    encode_prompts(context.prompts, backbone, folder, context.processes, context.progress)
    backbone.release_encoders()


STAGE = Stage("prompts", 3, ("prepare",), _inputs, _build, compared=False, cache=True, of_training=True)
