"""What a guidance learns from: the embedded backbone and task, with a method that has just been attached."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from rich.console import Console

from grasp_bench import seeds
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.contracts.guidance import Workshop
from grasp_bench.contracts.progress import Progress
from grasp_bench.run.plan import plan
from grasp_bench.sampling import Network


def workshop(folder: Path) -> Workshop:
    """Of grasp on digits-lt under the smoke budget; the task's data is prepared in ``folder``."""
    chosen, device, backbone = (
        plan(method="grasp", task="digits-lt", budget="smoke"),
        torch.device("cpu"),
        TinySD3.load(),
    )
    progress = Progress(Console(file=io.StringIO()))
    folder.mkdir(parents=True, exist_ok=True)
    chosen.task.prepare(folder, progress)
    chosen.method.attach(backbone, chosen.task, seeds.generator("init", "test"))
    backbone.transformer.double().eval()
    return Workshop(
        spec=chosen.spec,
        task=chosen.task,
        backbone=backbone,
        method=chosen.method,
        device=device,
        embed=lambda prompts: backbone.encode_prompts(list(prompts)),
        network=Network(backbone, chosen.method, device),
        data=lambda: chosen.task.open(folder, backbone.image_shape),
        trained=lambda steps: {},
        second=lambda weights: Network(backbone, chosen.method, device),
        progress=progress,
    )
