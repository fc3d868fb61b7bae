"""What a method may look at before it is attached, the pretrained backbone and the training data; and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pydantic import JsonValue

from grasp_bench import seeds
from grasp_bench.contracts.backbone import Backbone, PromptEmbeddings
from grasp_bench.contracts.spec import Precision
from grasp_bench.contracts.task import Dataset, Task, TaskSettings

if TYPE_CHECKING:
    import numpy as np
    import torch


class LatentSource(Protocol):
    """Where latents of training images come from."""

    def read(self, indices: np.ndarray, mirrored: np.ndarray) -> torch.Tensor:
        """Return latents (B, C, h, w) of images; where ``mirrored`` (B,) is true, of their mirror images."""
        ...


@dataclass(frozen=True)
class Study:
    """A run that is about to be trained. What is costly is a function: what nobody asks for is not made."""

    name: str
    """The task's name."""
    task: Task[TaskSettings]
    seed: int
    """The run's seed."""
    backbone: Backbone
    """Pretrained and on ``device``; to be left as it was."""
    device: torch.device
    data: Callable[[], Dataset]
    latents: Callable[[], LatentSource]
    """Latents of the training images."""
    embed: Callable[[], Callable[[Sequence[str]], PromptEmbeddings]]
    """Embeddings, on the CPU, of the prompts of training images and classes."""
    precision: Precision = "float32"
    """Precision that the transformer computes in, as in the run's training."""
    checkpointing: bool = False
    """Whether gradients are taken with gradient checkpointing, as memory may need."""
    say: Callable[[str], None] = lambda message: None
    """Tells the user a line."""

    def stream(self, purpose: str, *keys: str | int) -> int:
        """A seed of the run's own for ``purpose``, the same for every method."""
        return seeds.stream(purpose, self.name, self.seed, *keys)


@dataclass(frozen=True)
class Presumed:
    """A study as an estimate takes it, which looks at neither weights nor data."""

    found: dict[str, JsonValue]
    """What stands for the outcome of :meth:`Method.study`, and decides as much of a step as that."""
    evaluations: int = 0
    """Network evaluations of one image each that the study takes at most, without a gradient."""
