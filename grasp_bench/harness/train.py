"""The training loop, the same for every method."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import JsonValue

from grasp_bench.backbones.base import Backbone
from grasp_bench.harness.batches import Batch, Batches
from grasp_bench.harness.checkpoint import (
    Tensors,
    load_checkpoint,
    optimizer_tensors,
    remove_checkpoints,
    restore_optimizer,
    save_checkpoint,
)
from grasp_bench.harness.environment import PeakMemory
from grasp_bench.harness.failure import TrainingError
from grasp_bench.harness.progress import Reporter
from grasp_bench.io import write_bytes, write_json, write_tensors
from grasp_bench.method import Method, MethodSettings
from grasp_bench.spec import RunSpec

WEIGHTS = "weights.safetensors"
LOG = "train.jsonl"
SUMMARY = "train.json"


@dataclass
class Progress:
    """What a training has gone through so far; kept in its checkpoints."""

    step: int = 0
    streams: str = ""
    seconds: float = 0.0
    peak_memory_mib: float = 0.0


class GroupLoss:
    """Mean loss of each group since it was last read."""

    def __init__(self, groups: tuple[str, ...], group_of_class: np.ndarray) -> None:
        self.groups, self.group_of_class = groups, torch.from_numpy(group_of_class)
        self.clear()

    def clear(self) -> None:
        """Forget what was added."""
        self.sums = torch.zeros(len(self.groups), dtype=torch.float64)
        self.counts = torch.zeros(len(self.groups), dtype=torch.float64)

    def add(self, labels: torch.Tensor, losses: torch.Tensor) -> None:
        """``losses`` (B,) of samples with ``labels`` (B,)."""
        groups = self.group_of_class[labels.cpu()]
        self.sums.index_add_(0, groups, losses.detach().double().cpu())
        self.counts.index_add_(0, groups, torch.ones(len(groups), dtype=torch.float64))

    def means(self) -> dict[str, JsonValue]:
        """Group → mean, None for a group that was not seen."""
        pairs = zip(self.groups, self.sums.tolist(), self.counts.tolist(), strict=True)
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
    :class:`TrainingError` naming step and samples when the loss is not finite.
    """
    budget = spec.budget
    parameters = method.parameters()
    names = list(parameters)
    settings = method.config
    optimizer = torch.optim.AdamW(parameters.values(), settings.learning_rate, weight_decay=settings.weight_decay)
    averages = {name: value.detach().clone() for name, value in parameters.items()} if budget.ema_decay else {}
    progress, rows = _resume(folder, report.say, parameters, averages, optimizer)
    memory = PeakMemory(device)
    group_loss.clear()
    backbone.transformer.train()

    with report.task("train", budget.steps, progress.step) as advance:
        logged_at = time.perf_counter()
        while progress.step < budget.steps:
            rate = settings.learning_rate * min(1.0, (progress.step + 1) / max(1, budget.warmup_steps))
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = batches(progress.step)
            with method.condition(batch.condition):
                prediction = backbone.predict(batch.noisy, batch.condition.timesteps, batch.condition.prompts)
            losses = (prediction - batch.target).square().flatten(1).mean(1)  # (B,)
            auxiliary = method.auxiliary_loss()
            loss = losses.mean() if auxiliary is None else losses.mean() + auxiliary
            _check_finite(loss, progress.step, batch, batches)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters.values(), budget.clip_norm)
            optimizer.step()
            for name, average in averages.items():
                average.lerp_(parameters[name].detach(), 1 - budget.ema_decay)  # type: ignore[operator]

            progress.step += 1
            progress.streams = hashlib.sha256(progress.streams.encode() + batch.digest).hexdigest()
            group_loss.add(batch.condition.labels, losses)
            advance(1)
            if progress.step % log_every == 0 or progress.step == budget.steps:
                now = time.perf_counter()
                progress.seconds += now - logged_at
                progress.peak_memory_mib = max(progress.peak_memory_mib, memory.mib())
                images = ((progress.step - 1) % log_every + 1) * budget.batch_size
                rows.append(
                    {
                        "step": progress.step,
                        "loss": loss.item(),
                        "learning_rate": rate,
                        "images_per_second": round(images / (now - logged_at), 1),
                        "peak_memory_mib": round(progress.peak_memory_mib, 1),
                        "group_loss": group_loss.means(),
                        "method": method.diagnostics(),
                    }
                )
                group_loss.clear()
                _write_log(folder, rows)
                _save(folder, progress, parameters, averages, optimizer, names)
                logged_at = time.perf_counter()

    backbone.transformer.eval()
    for name, average in averages.items():
        parameters[name].data.copy_(average)
    _finish(folder, backbone, method, progress, rows[-1]["method"])


def _finish(
    folder: Path, backbone: Backbone, method: Method[MethodSettings], progress: Progress, diagnostics: JsonValue
) -> None:
    write_tensors(folder / WEIGHTS, method.state_dict())
    artifacts = method.artifacts()
    for name, content in artifacts.items():
        write_json(folder / name, content)
    write_json(
        folder / SUMMARY,
        {
            "streams": progress.streams,
            "seconds": round(progress.seconds, 3),
            "peak_memory_mib": round(progress.peak_memory_mib, 1),
            "trainable_parameters": sum(parameter.numel() for parameter in method.parameters().values()),
            "total_parameters": sum(parameter.numel() for parameter in backbone.transformer.parameters()),
            "artifacts": list(artifacts),
            "diagnostics": diagnostics,
        },
    )
    remove_checkpoints(folder)


def _check_finite(loss: torch.Tensor, step: int, batch: Batch, batches: Batches) -> None:
    if not math.isfinite(loss.item()):
        ids = ", ".join(batches.split.ids[index] for index in batch.indices)
        raise TrainingError(f"the loss is {loss.item()} at step {step}; the batch's samples: {ids}")


def _write_log(folder: Path, rows: list[dict[str, Any]]) -> None:
    write_bytes(folder / LOG, "".join(json.dumps(row) + "\n" for row in rows).encode())


def _save(
    folder: Path,
    progress: Progress,
    parameters: dict[str, torch.nn.Parameter],
    averages: Tensors,
    optimizer: torch.optim.Optimizer,
    names: list[str],
) -> None:
    state = torch.frombuffer(bytearray(json.dumps(vars(progress)).encode()), dtype=torch.uint8)
    tensors: Tensors = {"progress": state}
    tensors |= {f"parameters/{name}": value for name, value in parameters.items()}
    tensors |= {f"averages/{name}": value for name, value in averages.items()}
    tensors |= {f"optimizer/{name}": value for name, value in optimizer_tensors(optimizer, names).items()}
    save_checkpoint(folder, progress.step, tensors)


def _resume(
    folder: Path,
    say: Callable[[str], None],
    parameters: dict[str, torch.nn.Parameter],
    averages: Tensors,
    optimizer: torch.optim.Optimizer,
) -> tuple[Progress, list[dict[str, Any]]]:
    found = load_checkpoint(folder, say)
    if found is None:
        return Progress(), []
    step, tensors = found
    parts: dict[str, Tensors] = {"parameters": {}, "averages": {}, "optimizer": {}}
    for key, value in tensors.items():
        if key != "progress":
            part, name = key.split("/", 1)
            parts[part][name] = value
    for name, parameter in parameters.items():
        parameter.data.copy_(parts["parameters"][name])
    for name, average in averages.items():
        average.copy_(parts["averages"][name])
    restore_optimizer(optimizer, list(parameters), parts["optimizer"])
    lines = (folder / LOG).read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["step"] <= step]
    say(f"resuming after step {step}")
    return Progress(**json.loads(bytes(tensors["progress"].tolist()))), rows
