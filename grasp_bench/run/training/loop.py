"""The training loop, the same for every method."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from grasp_bench.adapters.tread import routed_training
from grasp_bench.checked import Tensors
from grasp_bench.contracts.backbone import Backbone
from grasp_bench.contracts.method import Batch, Method, MethodSettings
from grasp_bench.contracts.spec import Budget
from grasp_bench.errors import UserError
from grasp_bench.exchange import attempt_together, mean
from grasp_bench.finite import FiniteCheck
from grasp_bench.io import flattened, write_bytes, write_json, write_tensors
from grasp_bench.memory import in_one_part, is_out_of_memory, release
from grasp_bench.processes import Processes
from grasp_bench.run.context import Context
from grasp_bench.run.environment import peak_mib, reset_peak_memory
from grasp_bench.run.files import TRAIN_LOG, TRAIN_SUMMARY, WEIGHTS
from grasp_bench.run.interruption import Ended, postponed
from grasp_bench.run.training.backward import GroupLoss, backward
from grasp_bench.run.training.batches import Batches
from grasp_bench.run.training.checkpoint import Checkpoints, History, State, check_space, restore_checkpoint
from grasp_bench.run.training.fitting import Fitting, Layout, set_counters
from grasp_bench.run.training.optimizer import make_optimizer
from grasp_bench.run.training.placement import Copies, Placement, Shards, clip_gradients, whole
from grasp_bench.run.training.trackers import Log
from grasp_bench.run.training.trial import fit_shards, fitted


def train(context: Context, added: set[torch.nn.Parameter], batches: Batches, folder: Path, log: Log) -> None:
    """Fine-tune the run's method, already attached to its backbone, and leave weights, log and summary in ``folder``.

    ``added`` are the parameters that the method added to the transformer. Resumes from the newest checkpoint there;
    they are written by the clock. Raises :class:`NonFiniteError` naming step and samples when the loss or
    its gradient is not finite.
    """
    plan, options, progress, processes = context.plan, context.options, context.progress, context.processes
    budget, method, backbone = plan.spec.budget, plan.method, context.backbone
    group_loss = GroupLoss(plan.task.groups, plan.task.group_indices(), context.device)
    if options.compile:
        backbone.transformer.compile()
    fitting = fitted(context, batches, folder)
    if options.shard and method.surgery() is not None:
        raise UserError(
            f"--shard: {plan.spec.method.name} needs the gradients of all weights in every process, and each would "
            "have a share of them; leave --shard out, or choose another method."
        )
    kind = Placement if processes.count == 1 else Shards if options.shard else Copies
    routing = routed_training(backbone, method.config.tread)
    placement = kind(backbone, list(method.parameters().values()), added, processes)
    if options.shard:
        fit_shards(context, batches, fitting, placement)
    parameters = method.parameters()  # after the placement, which may put shards in the place of parameters
    optimizer = make_optimizer(budget, parameters.values(), method.config)
    averages = {name: value.detach().clone() for name, value in parameters.items()} if budget.ema_decay else {}

    def counters() -> Tensors:
        return {**group_loss.counters(), **{f"method/{name}": each for name, each in method.counters().items()}}

    state = State(parameters, averages, optimizer, counters)
    history = restore_checkpoint(folder, state, progress.say, processes)
    if history.step < budget.steps:
        mirror = context.store.mirror
        copy = mirror.copy_of(folder) if mirror else None
        check_space(folder, state, budget.optimizer, progress.say, options.checkpoint_minutes, copy)
    finite = FiniteCheck(context.device)
    meter = _Meter(history, context.device)
    backbone.transformer.train()
    with (
        progress.task("train", budget.steps, history.step) as advance,
        routing as leave_tokens_out,
        postponed() as must_end,
        Checkpoints(
            folder, processes, options.checkpoint_minutes, must_end, lambda: context.store.keep(folder)
        ) as checkpoints,
    ):
        meter.start()
        while history.step < budget.steps:
            rate = _set_learning_rate(optimizer, method.config, budget, history.step)
            batch = batches(history.step)
            loss = _gradient(context, batch, state, fitting, group_loss, placement, leave_tokens_out)
            if batches.second is not None and history.step >= batches.second.start:
                _rest(parameters, batches.second.trains)
            norm = clip_gradients(list(parameters.values()), budget.clip_norm)
            finite.see(history.step, batch.ids, loss, norm)
            update(state, budget, history.step)
            history.step += 1
            history.streams = hashlib.sha256(history.streams.encode() + batch.digest).hexdigest()
            advance(1)
            is_last = history.step == budget.steps
            if has_row := history.step % options.log_every == 0 or is_last:
                finite.settle()
                speed = meter.read(budget.batch_size)
                row: dict[str, Any] = {"step": history.step, "loss": mean(loss).item(), "learning_rate": rate, **speed}
                row |= {"group_loss": group_loss.read(), "method": method.diagnostics()}
                history.rows.append(row)
                if processes.is_first:
                    _write_log(folder, history.rows)
                    log(_numbers(row), history.step)
                meter.start()
            if checkpoints.are_due(history.step, has_row, is_last):
                finite.settle()
                with meter.paused():
                    checkpoints.save(history, state)
            if checkpoints.ends:
                checkpoints.finish()
                raise Ended(f"ended by a signal after step {history.step}, of which there is a checkpoint")
    placement.release()
    backbone.transformer.eval()
    for name, average in averages.items():
        parameters[name].data.copy_(average)
    _finish(folder, backbone, method, history, processes, fitting.layout)


def _gradient(
    context: Context,
    batch: Batch,
    state: State,
    fitting: Fitting,
    group_loss: GroupLoss,
    placement: Placement,
    leave_tokens_out: Callable[[Batch], None],
) -> torch.Tensor:
    """Return the mean loss of this process's samples of a step, and leave its gradient in the parameters.

    Where memory runs out in any process, all work on the step again, in the next layout that is left to try.
    """
    method, backbone = context.plan.method, context.backbone

    def passes() -> torch.Tensor:
        apart = replace(batch, generator=batch.generator.clone_state())  # another attempt draws the same numbers
        parts, precision = apart.split(fitting.layout.parts), context.plan.spec.budget.precision
        return backward(parts, backbone, method, group_loss, precision, placement, leave_tokens_out)

    while True:
        state.optimizer.zero_grad()
        placement.exchanges_late = fitting.is_open and placement.can_retry
        if not placement.exchanges_late:
            with in_one_part(fitting.by_hand()) if fitting.is_open else nullcontext():
                return passes()
        counted = {name: value.clone() for name, value in state.counters().items()}
        if found := attempt_together(passes, is_out_of_memory):
            return found[0]
        fitting.smaller()
        set_counters(state.counters(), counted)
        if fitting.layout.checkpointing:
            placement.enable_gradient_checkpointing()
        release()


def _rest(parameters: Mapping[str, torch.nn.Parameter], trains: Callable[[str], bool]) -> None:
    """Remove the gradients of parameters that no longer train: the optimiser passes over them."""
    for name, parameter in parameters.items():
        if not trains(name):
            parameter.grad = None


class _Meter:
    """Measures how fast a training is and what memory it takes, between rows of its log."""

    def __init__(self, history: History, device: torch.device) -> None:
        self.history, self.device = history, device
        reset_peak_memory(device)
        self.start()

    def start(self) -> None:
        self.step, self.spent, self.at = self.history.step, 0.0, time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Add the time so far to the history, and leave that of the block out."""
        self._add()
        yield
        self.at = time.perf_counter()

    def _add(self) -> None:
        now = time.perf_counter()
        self.spent, self.history.seconds, self.at = (
            self.spent + now - self.at,
            self.history.seconds + now - self.at,
            now,
        )

    def read(self, batch_size: int) -> dict[str, float]:
        """Add the time so far to the history, and return what the log says of it."""
        self._add()
        self.history.peak_memory_mib = max(self.history.peak_memory_mib, peak_mib(self.device))
        images = (self.history.step - self.step) * batch_size
        return {
            "images_per_second": round(images / self.spent, 1),
            "peak_memory_mib": round(self.history.peak_memory_mib, 1),
        }


def _set_learning_rate(optimizer: torch.optim.Optimizer, settings: MethodSettings, budget: Budget, step: int) -> float:
    """Set and return the learning rate of ``step``: it rises linearly from zero, and is constant after the warm-up."""
    rate = settings.learning_rate * min(1.0, (step + 1) / max(1, budget.warmup_steps))
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def update(state: State, budget: Budget, step: int) -> None:
    """Step the parameters along their gradients, and their running means towards them."""
    state.optimizer.step()
    for name, average in state.averages.items():
        average.lerp_(state.parameters[name].detach(), 1 - averaging_decay(budget, step))


def averaging_decay(budget: Budget, step: int) -> float:
    """The decay of the running mean at ``step``, counted from 0: with a warm-up, at most (1 + step) / (10 + step).

    The cap is that of TensorFlow's ExponentialMovingAverage and diffusers' EMAModel. A mean starts at the initial
    weights, of which 82 % would be left after 2,000 steps at a decay of 0.9999, and is that of about the last tenth of
    the steps until the cap lets the decay through.
    """
    assert budget.ema_decay is not None
    return min(budget.ema_decay, (1 + step) / (10 + step)) if budget.ema_warmup else budget.ema_decay


def _write_log(folder: Path, rows: list[dict[str, Any]]) -> None:
    write_bytes(folder / TRAIN_LOG, "".join(json.dumps(row) + "\n" for row in rows).encode())


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of a row of the log, nested names joined by a slash."""
    return {name: value for name, value in flattened(row, "/").items() if isinstance(value, int | float)}


def _finish(
    folder: Path,
    backbone: Backbone,
    method: Method[MethodSettings],
    history: History,
    processes: Processes,
    layout: Layout,
) -> None:
    """Write what the training gave, the summary last: where it exists, everything else does."""
    weights = {name: whole(value) for name, value in method.state_dict().items()}
    if not processes.is_first:
        return
    _write_log(folder, history.rows)
    write_tensors(folder / WEIGHTS, method.finished(weights))
    artifacts = method.artifacts()
    for name, content in artifacts.items():
        write_json(folder / name, content)
    pictures = method.pictures()
    for name, picture in pictures.items():
        write_bytes(folder / name, picture)
    logged = [{"step": row["step"], **row["method"]} for row in history.rows if row["method"]]
    write_json(
        folder / TRAIN_SUMMARY,
        {
            "streams": history.streams,
            "seconds": round(history.seconds, 3),
            "peak_memory_mib": round(history.peak_memory_mib, 1),
            "accumulate": layout.parts,
            "gradient_checkpointing": layout.checkpointing,
            "trainable_parameters": sum(parameter.numel() for parameter in method.parameters().values()),
            "active_parameters": method.active_parameters(),
            "total_parameters": sum(parameter.numel() for parameter in backbone.transformer.parameters()),
            "sizes": method.sizes,
            "artifacts": list(artifacts),
            "pictures": list(pictures),
            "diagnostics": logged,
        },
    )
