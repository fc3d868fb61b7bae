"""The latents and prompts stages: what autoencoder and text encoders make of the data, once for every method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from grasp_bench.contracts.backbone import PromptEmbeddings
from grasp_bench.run.encoded import (
    KnownPrompts,
    Latents,
    Pixels,
    StoredPrompts,
    encode_latents,
    encode_prompts,
)
from grasp_bench.run.training.batches import LatentSource

if TYPE_CHECKING:
    from grasp_bench.run.pipeline import Pipeline


def latents(pipeline: Pipeline) -> LatentSource:
    """Latents of the training images: stored, where an autoencoder makes them."""
    if not pipeline.plan.backbone.description.autoencoder:
        return Pixels(pipeline.data.train, pipeline.backbone)
    return Latents(pipeline.shared("latents", _encode_images))


def embed(pipeline: Pipeline) -> Callable[[Sequence[str]], PromptEmbeddings]:
    """Embeddings of the prompts of training and of generation: stored, where text encoders make them."""
    if not pipeline.plan.backbone.description.text_encoder:
        return KnownPrompts(_prompts(pipeline), pipeline.backbone)
    return StoredPrompts(pipeline.shared("prompts", _encode_prompts))


def _prompts(pipeline: Pipeline) -> list[str]:
    """The null condition and every prompt of the training images and the classes."""
    classes = (info.prompt for info in pipeline.plan.task.classes())
    return sorted({"", *pipeline.data.train.prompts, *classes})


def _encode_images(pipeline: Pipeline, folder: Path) -> None:
    split, flip = pipeline.data.train, pipeline.plan.spec.budget.horizontal_flip
    pipeline.backbone.to(pipeline.device)
    encode_latents(split, pipeline.backbone, flip, folder, pipeline.processes, pipeline.progress)
    pipeline.backbone.release_encoders()


def _encode_prompts(pipeline: Pipeline, folder: Path) -> None:
    prompts = _prompts(pipeline)
    pipeline.backbone.to(pipeline.device)
    encode_prompts(prompts, pipeline.backbone, folder, pipeline.processes, pipeline.progress)
    pipeline.backbone.release_encoders()
