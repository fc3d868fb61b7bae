"""The training loop, the same for every method."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import JsonValue

from grasp_bench.adapters.tread import routed_training
from grasp_bench.contracts.backbone import Backbone
from grasp_bench.contracts.method import Batch, Method, MethodSettings
from grasp_bench.contracts.spec import Budget, Precision
from grasp_bench.errors import NonFiniteError
from grasp_bench.io import flattened, write_bytes, write_json, write_tensors
from grasp_bench.precision import autocast
from grasp_bench.processes import Processes, mean, total
from grasp_bench.run.context import Context
from grasp_bench.run.environment import peak_mib, reset_peak_memory
from grasp_bench.run.files import TRAIN_LOG, TRAIN_SUMMARY, WEIGHTS
from grasp_bench.run.training.batches import Batches
from grasp_bench.run.training.checkpoint import Checkpoints, History, State, restore_checkpoint
from grasp_bench.run.training.optimizer import make_optimizer
from grasp_bench.run.training.placement import Copies, Placement, Shards, clip_gradients, whole
from grasp_bench.run.training.trackers import Log


class GroupLoss:
    """Mean squared error of each group since it was last read: what methods share, whatever else a loss has."""

    def __init__(self, groups: tuple[str, ...], group_of_class: np.ndarray) -> None:
        self.groups, self.group_of_class = groups, torch.from_numpy(group_of_class)
        self.device = torch.device("cpu")
        self._clear()

    def _clear(self) -> None:
        self.sums = torch.zeros(len(self.groups), dtype=torch.float64)
        self.counts = torch.zeros(len(self.groups), dtype=torch.float64)

    def add(self, labels: torch.Tensor, prediction: torch.Tensor, target: torch.Tensor) -> None:
        """Predictions and their targets (B, ...) of samples with ``labels`` (B,)."""
        losses = (prediction.detach() - target).square().flatten(1).mean(1)
        self.device = losses.device
        groups = self.group_of_class[labels.cpu()]
        self.sums.index_add_(0, groups, losses.double().cpu())
        self.counts.index_add_(0, groups, torch.ones(len(groups), dtype=torch.float64))

    def read(self) -> dict[str, JsonValue]:
        """Group → mean over all processes since the last call, None for a group that was not seen."""
        sums, counts = (total(each.to(self.device)).tolist() for each in (self.sums, self.counts))
        pairs = list(zip(self.groups, sums, counts, strict=True))
        self._clear()
        return {group: total / count if count else None for group, total, count in pairs}


def train(context: Context, added: set[torch.nn.Parameter], batches: Batches, folder: Path, log: Log) -> None:
    """Fine-tune the run's method, already attached to its backbone, and leave weights, log and summary in ``folder``.

    ``added`` are the parameters that the method added to the transformer. Resumes from the newest checkpoint there;
    one is written with every row of the log. Raises :class:`NonFiniteError` naming step and samples when the loss or
    its gradient is not finite.
    """
    plan, options, progress, processes = context.plan, context.options, context.progress, context.processes
    budget, method, backbone = plan.spec.budget, plan.method, context.backbone
    group_loss = GroupLoss(plan.task.groups, plan.task.group_indices())
    if options.compile:
        backbone.transformer.compile()
    kind = Placement if processes.count == 1 else Shards if options.shard else Copies
    routing = routed_training(backbone, method.config.tread)
    placement = kind(backbone, list(method.parameters().values()), added, processes)
    parameters = method.parameters()  # after the placement, which may put shards in the place of parameters
    optimizer = make_optimizer(budget, parameters.values(), method.config)
    averages = {name: value.detach().clone() for name, value in parameters.items()} if budget.ema_decay else {}
    state = State(parameters, averages, optimizer)
    history = restore_checkpoint(folder, state, progress.say, processes)
    meter = _Meter(history, context.device)
    backbone.transformer.train()
    with (
        progress.task("train", budget.steps, history.step) as advance,
        routing as leave_tokens_out,
        Checkpoints(folder, processes) as checkpoints,
    ):
        meter.start()
        while history.step < budget.steps:
            rate = _set_learning_rate(optimizer, method.config, budget, history.step)
            batch = batches(history.step)
            optimizer.zero_grad()
            parts = batch.split(options.accumulate)
            loss = _backward(parts, backbone, method, group_loss, budget.precision, placement, leave_tokens_out)
            _update(state, budget, loss, history.step, batch)
            history.step += 1
            history.streams = hashlib.sha256(history.streams.encode() + batch.digest).hexdigest()
            advance(1)
            if history.step % options.log_every == 0 or history.step == budget.steps:
                speed = meter.read(budget.batch_size)
                row: dict[str, Any] = {"step": history.step, "loss": mean(loss).item(), "learning_rate": rate, **speed}
                row |= {"group_loss": group_loss.read(), "method": method.diagnostics()}
                history.rows.append(row)
                checkpoints.save(history, state, then=partial(_write_log, folder, list(history.rows)))
                if processes.is_first:
                    log(_numbers(row), history.step)
                meter.start()
    placement.release()
    backbone.transformer.eval()
    for name, average in averages.items():
        parameters[name].data.copy_(average)
    _finish(folder, backbone, method, history, processes)


class _Meter:
    """Measures how fast a training is and what memory it takes, between rows of its log."""

    def __init__(self, history: History, device: torch.device) -> None:
        self.history, self.device = history, device
        reset_peak_memory(device)
        self.start()

    def start(self) -> None:
        self.step, self.at = self.history.step, time.perf_counter()

    def read(self, batch_size: int) -> dict[str, float]:
        """Add the time since the start to the history, and return what the log says of it."""
        spent = time.perf_counter() - self.at
        self.history.seconds += spent
        self.history.peak_memory_mib = max(self.history.peak_memory_mib, peak_mib(self.device))
        images = (self.history.step - self.step) * batch_size
        return {
            "images_per_second": round(images / spent, 1),
            "peak_memory_mib": round(self.history.peak_memory_mib, 1),
        }


def _set_learning_rate(optimizer: torch.optim.Optimizer, settings: MethodSettings, budget: Budget, step: int) -> float:
    """Set and return the learning rate of ``step``: it rises linearly from zero, and is constant after the warm-up."""
    rate = settings.learning_rate * min(1.0, (step + 1) / max(1, budget.warmup_steps))
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def _update(state: State, budget: Budget, loss: torch.Tensor, step: int, batch: Batch) -> None:
    """Step the parameters along their gradients, and their running means towards them."""
    norm = clip_gradients(list(state.parameters.values()), budget.clip_norm)
    for name, value in (("loss", loss.item()), ("gradient's norm", norm.item())):
        if not math.isfinite(value):
            raise NonFiniteError(f"the {name} is {value} at step {step}; the batch's samples: {', '.join(batch.ids)}")
    state.optimizer.step()
    for name, average in state.averages.items():
        average.lerp_(state.parameters[name].detach(), 1 - budget.ema_decay)  # type: ignore[operator] # not None


def _backward(
    parts: list[Batch],
    backbone: Backbone,
    method: Method[MethodSettings],
    group_loss: GroupLoss,
    precision: Precision,
    placement: Placement,
    leave_tokens_out: Callable[[Batch], None],
) -> torch.Tensor:
    """Return the mean loss of this process's samples of a step, and leave its gradient in the parameters."""
    mean_loss = parts[0].latents.new_zeros(())
    for number, part in enumerate(parts, 1):
        leave_tokens_out(part)
        with placement.accumulating() if number < len(parts) else nullcontext():
            with autocast(precision, part.latents.device):  # also for the forward passes that a loss makes
                with method.condition(part.condition):
                    prediction = backbone.predict(part.noisy, part.condition.timesteps, part.condition.prompts)
                prediction = prediction.to(part.target)
                losses = method.losses(part, prediction)  # (B,)
                auxiliary = method.auxiliary_loss(part, prediction)
            loss = (losses if part.weights is None else losses * part.weights).mean()
            loss = loss if auxiliary is None else loss + auxiliary
            (loss / len(parts)).backward()
        mean_loss += loss.detach() / len(parts)
        group_loss.add(part.condition.labels, prediction, part.target)
    placement.finish_gradients()
    return mean_loss


def _write_log(folder: Path, rows: list[dict[str, Any]]) -> None:
    write_bytes(folder / TRAIN_LOG, "".join(json.dumps(row) + "\n" for row in rows).encode())


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of a row of the log, nested names joined by a slash."""
    return {name: value for name, value in flattened(row, "/").items() if isinstance(value, int | float)}


def _finish(
    folder: Path, backbone: Backbone, method: Method[MethodSettings], history: History, processes: Processes
) -> None:
    """Write what the training gave, the summary last: where it exists, everything else does."""
    weights = {name: whole(value) for name, value in method.state_dict().items()}
    if not processes.is_first:
        return
    _write_log(folder, history.rows)
    write_tensors(folder / WEIGHTS, weights)
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
            "trainable_parameters": sum(parameter.numel() for parameter in method.parameters().values()),
            "total_parameters": sum(parameter.numel() for parameter in backbone.transformer.parameters()),
            "artifacts": list(artifacts),
            "pictures": list(pictures),
            "diagnostics": logged,
        },
    )
