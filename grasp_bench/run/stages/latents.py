"""The latents stage: what the autoencoder makes of the training images, computed once for every method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from grasp_bench.run.context import Context, Inputs, Stage
from grasp_bench.run.plan import Plan


def _inputs(plan: Plan, upstream: Mapping[str, str]) -> Inputs | None:
    autoencoder = plan.backbone.description.autoencoder
    if autoencoder is None:
        return None
    data: Inputs = {"prepare": upstream["prepare"], "shape": plan.shape}
    return data | {"autoencoder": autoencoder, "mirrored": plan.spec.budget.horizontal_flip}


def _build(context: Context, folder: Path, upstream: Mapping[str, Path]) -> None:
    from grasp_bench.run.encoded import encode_latents

    mirrored, backbone = context.plan.spec.budget.horizontal_flip, context.backbone.encode_on(context.device)
    encode_latents(context.data.train, backbone, mirrored, folder, context.processes, context.progress)
    backbone.release_encoders()


STAGE = Stage("latents", 1, ("prepare",), _inputs, _build, compared=False, cache=True, of_training=True)
