"""The training loop, the same for every method."""

from __future__ import annotations

import hashlib
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from pydantic import JsonValue

from grasp_bench.backbones.base import Backbone
from grasp_bench.errors import NonFiniteError
from grasp_bench.harness.batches import Batches
from grasp_bench.harness.checkpoint import Progress, State, restore_checkpoint, save_checkpoint
from grasp_bench.harness.environment import PeakMemory
from grasp_bench.harness.progress import Reporter
from grasp_bench.io import write_bytes, write_json, write_tensors
from grasp_bench.method import Batch, Method, MethodSettings
from grasp_bench.spec import RunSpec

WEIGHTS = "weights.safetensors"
LOG = "train.jsonl"
SUMMARY = "train.json"


class GroupLoss:
    """Mean loss of each group since it was last read."""

    def __init__(self, groups: tuple[str, ...], group_of_class: np.ndarray) -> None:
        self.groups, self.group_of_class = groups, torch.from_numpy(group_of_class)
        self._clear()

    def _clear(self) -> None:
        self.sums = torch.zeros(len(self.groups), dtype=torch.float64)
        self.counts = torch.zeros(len(self.groups), dtype=torch.float64)

    def add(self, labels: torch.Tensor, losses: torch.Tensor) -> None:
        """``losses`` (B,) of samples with ``labels`` (B,)."""
        groups = self.group_of_class[labels.cpu()]
        self.sums.index_add_(0, groups, losses.detach().double().cpu())
        self.counts.index_add_(0, groups, torch.ones(len(groups), dtype=torch.float64))

    def read(self) -> dict[str, JsonValue]:
        """Group → mean since the last call, None for a group that was not seen."""
        pairs = list(zip(self.groups, self.sums.tolist(), self.counts.tolist(), strict=True))
        self._clear()
        return {group: total / count if count else None for group, total, count in pairs}


def train(
    spec: RunSpec,
    backbone: Backbone,
    method: Method[MethodSettings],
    batches: Batches,
    group_loss: GroupLoss,
    folder: Path,
    log_every: int,
    device: torch.device,
    report: Reporter,
) -> None:
    """Fine-tune ``method``, already attached to ``backbone``, and leave weights, log and summary in ``folder``.

    Resumes from the newest checkpoint there; one is written with every row of the log. Raises
    :class:`NonFiniteError` naming step and samples when the loss or its gradient is not finite.
    """
    budget, settings = spec.budget, method.config
    parameters = method.parameters()
    optimizer = torch.optim.AdamW(parameters.values(), settings.learning_rate, weight_decay=settings.weight_decay)
    averages = {name: value.detach().clone() for name, value in parameters.items()} if budget.ema_decay else {}
    state = State(parameters, averages, optimizer)
    progress = restore_checkpoint(folder, state, report.say)
    memory = PeakMemory(device)
    backbone.transformer.train()

    with report.task("train", budget.steps, progress.step) as advance:
        logged_step, logged_at = progress.step, time.perf_counter()
        while progress.step < budget.steps:
            rate = settings.learning_rate * min(1.0, (progress.step + 1) / max(1, budget.warmup_steps))
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = batches(progress.step)
            with method.condition(batch.condition):
                prediction = backbone.predict(batch.noisy, batch.condition.timesteps, batch.condition.prompts)
            losses = method.losses(batch, prediction)  # (B,)
            auxiliary = method.auxiliary_loss(batch, prediction)
            loss = losses.mean() if auxiliary is None else losses.mean() + auxiliary
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters.values(), budget.clip_norm)
            _check_finite(loss, norm, progress.step, batch)
            optimizer.step()
            for name, average in averages.items():
                average.lerp_(parameters[name].detach(), 1 - budget.ema_decay)  # type: ignore[operator] # not None

            progress.step += 1
            progress.streams = hashlib.sha256(progress.streams.encode() + batch.digest).hexdigest()
            group_loss.add(batch.condition.labels, losses)
            advance(1)
            if progress.step % log_every == 0 or progress.step == budget.steps:
                now = time.perf_counter()
                progress.seconds += now - logged_at
                progress.peak_memory_mib = max(progress.peak_memory_mib, memory.mib())
                images = (progress.step - logged_step) * budget.batch_size
                progress.rows.append(
                    {
                        "step": progress.step,
                        "loss": loss.item(),
                        "learning_rate": rate,
                        "images_per_second": round(images / (now - logged_at), 1),
                        "peak_memory_mib": round(progress.peak_memory_mib, 1),
                        "group_loss": group_loss.read(),
                        "method": method.diagnostics(),
                    }
                )
                save_checkpoint(folder, progress, state)
                _write_log(folder, progress)
                logged_step, logged_at = progress.step, time.perf_counter()

    backbone.transformer.eval()
    for name, average in averages.items():
        parameters[name].data.copy_(average)
    _finish(folder, backbone, method, progress)


def _check_finite(loss: torch.Tensor, norm: torch.Tensor, step: int, batch: Batch) -> None:
    for name, value in (("loss", loss.item()), ("gradient's norm", norm.item())):
        if not math.isfinite(value):
            raise NonFiniteError(f"the {name} is {value} at step {step}; the batch's samples: {', '.join(batch.ids)}")


def _write_log(folder: Path, progress: Progress) -> None:
    write_bytes(folder / LOG, "".join(json.dumps(row) + "\n" for row in progress.rows).encode())


def _finish(folder: Path, backbone: Backbone, method: Method[MethodSettings], progress: Progress) -> None:
    """The summary comes last: where it is, everything else is."""
    _write_log(folder, progress)
    write_tensors(folder / WEIGHTS, method.state_dict())
    artifacts = method.artifacts()
    for name, content in artifacts.items():
        write_json(folder / name, content)
    logged = [{"step": row["step"], **row["method"]} for row in progress.rows if row["method"]]
    write_json(
        folder / SUMMARY,
        {
            "streams": progress.streams,
            "seconds": round(progress.seconds, 3),
            "peak_memory_mib": round(progress.peak_memory_mib, 1),
            "trainable_parameters": sum(parameter.numel() for parameter in method.parameters().values()),
            "total_parameters": sum(parameter.numel() for parameter in backbone.transformer.parameters()),
            "artifacts": list(artifacts),
            "diagnostics": logged,
        },
    )
