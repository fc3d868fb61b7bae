"""Trying a training step before the training, to find how it fits in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from grasp_bench.adapters.tread import routed_training
from grasp_bench.contracts.method import Batch
from grasp_bench.contracts.spec import Budget
from grasp_bench.run.context import Context
from grasp_bench.run.training.backward import GroupLoss, backward
from grasp_bench.run.training.batches import Batches
from grasp_bench.run.training.fitting import Fitting, Layout, layouts, undone
from grasp_bench.run.training.placement import Placement

TRIED_ON = ("cuda",)
"""Kinds of devices whose memory steps are made to fit; elsewhere ``auto`` is one part without checkpointing."""


def fitted(context: Context, batches: Batches, folder: Path) -> Fitting:
    """Return how the training of an attached method works on its steps, and what is left to try.

    Nothing is placed yet, and no process waits for another while it tries: a process that runs out of memory would
    leave the others waiting. Sharded weights cannot be tried so.
    """
    options, method, processes = context.options, context.plan.method, context.processes
    budget, backbone = context.plan.spec.budget, context.backbone
    accumulate, checkpointing = options.accumulate, options.gradient_checkpointing
    if context.device.type not in TRIED_ON or options.shard:
        accumulate = 1 if accumulate == "auto" else accumulate
        checkpointing = False if checkpointing == "auto" else checkpointing
    rows = budget.batch_size // processes.count
    tried = layouts(rows, accumulate, checkpointing, method.needs_whole_batch is not None)
    fitting = Fitting(tried, method, folder, processes, context.progress.say)
    if fitting.is_open:
        backbone.transformer.train()
        batch = batches(0)
        fitting.find(lambda layout: _try(context, batch, layout), context.device)
    if fitting.layout.checkpointing:
        backbone.enable_gradient_checkpointing()
    return fitting


def _try(context: Context, batch: Batch, layout: Layout) -> None:
    """Work on the first part of a step, beside all that the training holds at the same time, and leave no trace."""
    plan, backbone, device = context.plan, context.backbone, context.device
    budget, method, parameters = plan.spec.budget, plan.method, list(plan.method.parameters().values())
    if layout.checkpointing:
        backbone.enable_gradient_checkpointing()
    gpus = [device] if device.type == "cuda" else []
    try:
        with (
            undone(method.counters),
            torch.random.fork_rng(gpus),
            routed_training(backbone, method.config.tread) as leave_tokens_out,
        ):
            held = torch.empty(_beside(parameters, budget, context.processes.count), dtype=torch.uint8, device=device)
            if layout.parts > 1:  # a later part finds the gradients of those before it
                for parameter in parameters:
                    parameter.grad = torch.zeros_like(parameter)
            part = batch.split(layout.parts)[0]
            group_loss = GroupLoss(plan.task.groups, plan.task.group_indices(), device)
            placement = Placement(backbone, parameters, set(), context.processes)
            backward([part], backbone, method, group_loss, budget.precision, placement, leave_tokens_out)
            del held
    finally:
        for parameter in parameters:
            parameter.grad = None


def _beside(parameters: Sequence[torch.nn.Parameter], budget: Budget, processes: int) -> int:
    """Return the bytes that a training keeps of its parameters: moments, running means, and what processes exchange."""
    moment = 1 if budget.optimizer == "adamw-8bit" else 4
    copies = (1 if budget.ema_decay else 0) + (1 if processes > 1 else 0)
    return sum(each.numel() * (2 * moment + copies * each.element_size()) for each in parameters)
