"""What a guidance may learn from and sample with, beyond the network that it guides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from grasp_bench import seeds
from grasp_bench.contracts.backbone import Backbone, PromptEmbeddings
from grasp_bench.contracts.method import Condition, Method, MethodSettings
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.spec import RunSpec
from grasp_bench.contracts.task import Dataset, Task, TaskSettings


@dataclass(frozen=True)
class Workshop:
    """The run that is being sampled from."""

    spec: RunSpec
    task: Task[TaskSettings]
    """That the method was fine-tuned on."""
    backbone: Backbone
    method: Method[MethodSettings]
    """Attached to the backbone, with its trained weights."""
    device: torch.device
    embed: Callable[[Sequence[str]], PromptEmbeddings]
    """Embeddings of the classes' prompts and of the null condition, on the CPU."""
    network: Callable[[torch.Tensor, Condition], torch.Tensor]
    """The fine-tuned network; its evaluations are counted."""
    data: Callable[[], Dataset]
    """Opens the task's data; a guidance may use its training and validation images."""
    trained: Callable[[int], Path]
    """Number of steps → folder of the same run's weights after so many, ``weights.safetensors``."""
    second: Callable[[dict[str, torch.Tensor] | None], Callable[[torch.Tensor, Condition], torch.Tensor]]
    """A second network beside the first, with other weights of the method or, for None, the base model without it;
    its evaluations are counted too."""
    progress: Progress

    @property
    def dtype(self) -> torch.dtype:
        """Precision of latents while sampling."""
        half = self.spec.budget.precision == "bfloat16"  # autocast leaves double precision alone
        return torch.float32 if half else getattr(torch, self.backbone.sampling_dtype)

    def generator(self, *keys: str | int) -> torch.Generator:
        """A stream of the run's own for what a guidance learns."""
        return seeds.generator("guidance", self.spec.task.name, self.spec.seed, self.spec.guidance.name, *keys)
