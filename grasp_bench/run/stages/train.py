"""The train stage: the method's weights after the budget's steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from grasp_bench.checked import remove_checked
from grasp_bench.run.training import checkpoint
from grasp_bench.run.training import loop as training
from grasp_bench.run.training.batches import Batches
from grasp_bench.run.training.trackers import tracking
from grasp_bench.run.training.trained import summary

if TYPE_CHECKING:
    from grasp_bench.run.pipeline import Pipeline


def build(pipeline: Pipeline, folder: Path) -> None:
    """Leave in ``folder`` what training does, and none of its checkpoints."""
    if not pipeline.processes.first_says((folder / training.SUMMARY).exists):
        _train(pipeline, folder)
    if pipeline.processes.is_first:
        remove_checked(folder, checkpoint.KIND)


def _train(pipeline: Pipeline, folder: Path) -> None:
    plan, options, split = pipeline.plan, pipeline.options, pipeline.data.train
    latents, embed = pipeline.latents, pipeline.embed
    added = pipeline.attach()
    trains = plan.method.parameters()
    count = sum(parameter.numel() for parameter in trains.values())
    pipeline.progress.say(f"trains {count:,} parameters: {summary(trains)}")
    if options.gradient_checkpointing:
        pipeline.backbone.enable_gradient_checkpointing()
    counts = np.bincount(split.labels, minlength=len(pipeline.classes))
    weights, loss_weights = plan.method.sample_weights(counts), plan.method.loss_weights(counts)
    batches = Batches(
        plan.spec,
        split,
        pipeline.backbone,
        latents,
        embed,
        pipeline.device,
        weights,
        pipeline.processes,
        loss_weights,
        plan.method.training_clusters(split),
    )
    execution = training.Execution(
        pipeline.device, pipeline.processes, options.log_every, options.accumulate, options.shard, options.compile
    )
    name = f"{plan.label} on {plan.task_label}, seed {plan.spec.seed}"
    with tracking(options.trackers, options.work_dir / "trackers", name, plan.spec.model_dump(mode="json")) as log:
        training.train(
            plan.spec,
            pipeline.backbone,
            plan.method,
            added,
            batches,
            training.GroupLoss(plan.task.groups, plan.task.group_indices()),
            folder,
            execution,
            pipeline.progress,
            log,
        )
    del pipeline.backbone  # it may be compiled, in shards or in half precision: images are made by a fresh one
