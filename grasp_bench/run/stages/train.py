"""The train stage: the method's weights after the budget's steps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from grasp_bench.checked import remove_checked
from grasp_bench.io import remove
from grasp_bench.run.budgets import SAMPLING, SCORING
from grasp_bench.run.context import Context, Inputs, Stage
from grasp_bench.run.files import LAYOUT, TRAIN_SUMMARY
from grasp_bench.run.plan import Plan
from grasp_bench.run.stages import study


def _inputs(plan: Plan, upstream: Mapping[str, str]) -> Inputs:
    budget = plan.spec.budget.model_dump(mode="json", exclude={*SAMPLING, *SCORING})
    return {"budget": budget} | study.trained_parts(plan, upstream)


def _build(context: Context, folder: Path, upstream: Mapping[str, Path]) -> None:
    """Leave in ``folder`` what the training gives, and none of its checkpoints."""
    from grasp_bench.run.training.checkpoint import KIND

    if not context.processes.first_says((folder / TRAIN_SUMMARY).exists):
        _train(context, folder)
    if context.processes.is_first:
        remove_checked(folder, KIND)
        remove(folder / LAYOUT)


def _train(context: Context, folder: Path) -> None:
    """Fine-tune the run's method, and leave weights, log and summary in ``folder``."""
    import numpy as np

    from grasp_bench.precision import quick_products
    from grasp_bench.run.training import loop
    from grasp_bench.run.training.batches import Batches
    from grasp_bench.run.training.trackers import tracking

    plan, options, progress = context.plan, context.options, context.progress
    split, latents, embed = context.data.train, context.latents, context.embed
    added = context.attach()
    trains = plan.method.parameters()
    count = sum(parameter.numel() for parameter in trains.values())
    transformer = context.backbone.transformer
    whole = {id(each) for each in transformer.parameters()} == {id(each) for each in trains.values()}
    if whole:
        progress.say(f"trains all {count:,} parameters of the transformer")
    else:
        sizes = "".join(f", {name} {size:,}" for name, size in plan.method.sizes.items())
        progress.say(f"trains {count:,} parameters{sizes}: {summary(trains)}")
    counts = np.bincount(split.labels, minlength=len(context.classes))
    batches = Batches(
        plan.spec,
        split,
        context.backbone,
        latents,
        embed,
        context.device,
        plan.method.sample_weights(counts),
        context.processes,
        plan.method.loss_weights(counts),
        plan.method.training_clusters(split),
        plan.method.second_stage(plan.spec.budget.steps, counts),
    )
    trackers = options.work_dir / "trackers"
    precision = plan.spec.budget.precision
    with (
        quick_products(precision, context.device),
        tracking(options.trackers, trackers, plan.title, plan.spec.model_dump(mode="json")) as log,
    ):
        loop.train(context, added, batches, folder, log)
    del context.backbone  # it may be compiled, in shards or in half precision: images are made by a fresh one


def summary(names: Iterable[str]) -> str:
    """Return names of parameters with their numbers left open, and how many there are of each.

    ``blocks.0.ff.up.0`` and ``blocks.1.ff.up.0`` are ``blocks.*.ff.up.* (2)``.
    """
    found = Counter(re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name) for name in names)
    return ", ".join(f"{name} ({count})" for name, count in found.items())


STAGE = Stage("train", 1, (*study.AFTER, "study"), _inputs, _build, of_training=True)
