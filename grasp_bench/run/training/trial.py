"""Trying a training step before the training, to find how it fits in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from grasp_bench.adapters.tread import routed_training
from grasp_bench.contracts.backbone import Backbone
from grasp_bench.contracts.method import Batch
from grasp_bench.contracts.spec import Budget
from grasp_bench.run.context import Context
from grasp_bench.run.environment import reset_peak_memory
from grasp_bench.run.training.backward import GroupLoss, backward
from grasp_bench.run.training.batches import Batches
from grasp_bench.run.training.fitting import Fitting, Layout, layouts, undone
from grasp_bench.run.training.placement import Placement

TRIED_ON = ("cuda",)
"""Kinds of devices whose memory steps are made to fit; elsewhere ``auto`` is one part without checkpointing."""
SAFE = 0.9
"""Share of a GPU's memory that a step may take by calculation; the allocator loses some to gaps."""


def fitted(context: Context, batches: Batches, folder: Path) -> Fitting:
    """Return how the training of an attached method works on its steps, and what is left to try.

    Nothing is placed yet, and no process waits for another while it tries: a process that runs out of memory would
    leave the others waiting. Sharded weights are measured once they are placed, by :func:`fit_shards`.
    """
    options, method, processes = context.options, context.plan.method, context.processes
    budget, backbone = context.plan.spec.budget, context.backbone
    accumulate, checkpointing = options.accumulate, options.gradient_checkpointing
    if context.device.type not in TRIED_ON:
        accumulate = 1 if accumulate == "auto" else accumulate
        checkpointing = False if checkpointing == "auto" else checkpointing
    rows = budget.batch_size // processes.count
    tried = layouts(rows, accumulate, checkpointing, method.needs_whole_batch is not None)
    fitting = Fitting(tried, method, folder, processes, context.progress.say)
    if options.shard:
        return fitting
    if fitting.is_open:
        backbone.transformer.train()
        batch = batches(0)
        fitting.find(lambda layout: _try(context, batch, layout), context.device)
    if fitting.layout.checkpointing:
        backbone.enable_gradient_checkpointing()
    return fitting


def fit_shards(context: Context, batches: Batches, fitting: Fitting, placement: Placement) -> None:
    """Choose how a step with sharded weights is worked on, by what few samples take; all processes do it together.

    A step that runs out of memory in one process would leave the others waiting for it, so none is tried that may: the
    memory of one sample and of a few more gives that of all, which is linear in them.
    """
    backbone, device = context.backbone, context.device
    if fitting.is_open and not fitting.found_before():
        backbone.transformer.train()
        batch = batches(0)
        parameters = list(context.plan.method.parameters().values())
        room = SAFE * available(device) - _beside(parameters, context.plan.spec.budget, 1)
        takes = {kind: _measured(context, batch, kind, placement) for kind in sorted(fitting.kinds, reverse=True)}
        rows = len(batch.ids)
        fits = (
            number
            for number, layout in enumerate(fitting.left[:-1])
            if takes[layout.checkpointing](rows // layout.parts) <= room
        )
        fitting.choose(next(fits, len(fitting.left) - 1), device)
    _recompute(backbone, fitting.layout.checkpointing)


def _measured(context: Context, batch: Batch, checkpointing: bool, placement: Placement) -> Callable[[int], float]:
    """Return number of samples → the bytes that a step with so many takes at its peak."""
    rows = len(batch.ids)
    few = next((count for count in range(2, rows + 1) if rows % count == 0), 1)
    _recompute(context.backbone, checkpointing)
    one, more = (_peak_of(context, batch.split(rows // count)[0], placement) for count in (1, few))
    each = (more - one) / max(1, few - 1)
    return lambda count: one + (count - 1) * each


def _peak_of(context: Context, part: Batch, placement: Placement) -> int:
    """Return the bytes that a process holds at most in a forward and backward pass, which leaves no trace."""
    reset_peak_memory(context.device)
    with _traceless(context) as step:
        step(part, placement)
        return peak(context.device)


def peak(device: torch.device) -> int:
    """Return the bytes that tensors on a GPU took at most since that was reset."""
    return torch.cuda.max_memory_allocated(device)


def available(device: torch.device) -> int:
    """Return the bytes that tensors of this process may take on a GPU in all."""
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)


def _recompute(backbone: Backbone, wanted: bool) -> None:
    """Turn gradient checkpointing on or off."""
    if wanted:
        backbone.enable_gradient_checkpointing()
    elif backbone.transformer.is_gradient_checkpointing:
        backbone.transformer.disable_gradient_checkpointing()  # type: ignore[operator] # diffusers' models have it


def _try(context: Context, batch: Batch, layout: Layout) -> None:
    """Work on the first part of a step, beside all that the training holds at the same time, and leave no trace."""
    plan, backbone, device = context.plan, context.backbone, context.device
    parameters = list(plan.method.parameters().values())
    if layout.checkpointing:
        backbone.enable_gradient_checkpointing()
    with _traceless(context) as step:
        beside = _beside(parameters, plan.spec.budget, context.processes.count)
        held = torch.empty(beside, dtype=torch.uint8, device=device)
        if layout.parts > 1:  # a later part finds the gradients of those before it
            for parameter in parameters:
                parameter.grad = torch.zeros_like(parameter)
        step(batch.split(layout.parts)[0], Placement(backbone, parameters, set(), context.processes))
        del held


@contextmanager
def _traceless(context: Context) -> Iterator[Callable[[Batch, Placement], None]]:
    """Give what works on a part of a step; after the block gradients, counters and generators are as before."""
    plan, backbone, device = context.plan, context.backbone, context.device
    method, budget = plan.method, plan.spec.budget
    group_loss = GroupLoss(plan.task.groups, plan.task.group_indices(), device)
    try:
        with (
            undone(method.counters),
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            routed_training(backbone, method.config.tread) as leave_tokens_out,
        ):

            def step(part: Batch, placement: Placement) -> None:
                backward([part], backbone, method, group_loss, budget.precision, placement, leave_tokens_out)

            yield step
    finally:
        for parameter in method.parameters().values():
            parameter.grad = None


def _beside(parameters: Sequence[torch.nn.Parameter], budget: Budget, processes: int) -> int:
    """Return the bytes that a training keeps of its parameters: moments, running means, and what processes exchange."""
    moment = 1 if budget.optimizer == "adamw-8bit" else 4
    copies = (1 if budget.ema_decay else 0) + (1 if processes > 1 else 0)
    return sum(each.numel() * (2 * moment + copies * each.element_size()) for each in parameters)
