"""The contract of a method: what it adds to a backbone and trains. The loop belongs to the harness."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from pydantic import Field, JsonValue

from grasp_bench.errors import Skip
from grasp_bench.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import torch

    from grasp_bench.backbones.base import Backbone, PromptEmbeddings
    from grasp_bench.task import Task, TaskSettings


class MethodSettings(Settings):
    """Settings every method has; a method adds its own."""

    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    """Peak learning rate of AdamW"""
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    """Decoupled weight decay of AdamW"""


@dataclass(frozen=True)
class Condition:
    """What a forward pass may know of its samples, in training and in sampling alike; every field has length B."""

    labels: torch.Tensor
    """Class indices."""
    dropped: torch.Tensor
    """True where the prompt was replaced by the null condition."""
    prompts: PromptEmbeddings
    timesteps: torch.Tensor
    """In [0, 1]; 1 is noise."""

    def __getitem__(self, rows: slice) -> Condition:
        return Condition(self.labels[rows], self.dropped[rows], self.prompts[rows], self.timesteps[rows])

    def cat(self, other: Condition) -> Condition:
        """The samples of ``self``, then those of ``other``."""
        import torch

        return Condition(
            torch.cat([self.labels, other.labels]),
            torch.cat([self.dropped, other.dropped]),
            self.prompts.cat(other.prompts),
            torch.cat([self.timesteps, other.timesteps]),
        )


@dataclass(frozen=True)
class Batch:
    """One training step's samples, or the part of them that one process works on at a time."""

    ids: list[str]
    """Names of the images, (B,)."""
    latents: torch.Tensor
    """x_0, (B, ...)."""
    noise: torch.Tensor
    noisy: torch.Tensor
    """x_t."""
    target: torch.Tensor
    """What the objective asks the network to predict."""
    condition: Condition
    generator: torch.Generator
    """For draws of the method's own: a stream of the step's, apart from noise, timesteps and order."""
    digest: bytes
    """sha256 of what decides the step's samples, of all processes together."""

    def split(self, parts: int) -> list[Batch]:
        """``parts`` batches of equal size, for a step whose gradient is accumulated."""
        if parts == 1:
            return [self]
        size = len(self.ids) // parts
        return [self._rows(slice(start, start + size)) for start in range(0, len(self.ids), size)]

    def _rows(self, rows: slice) -> Batch:
        return Batch(
            self.ids[rows],
            self.latents[rows],
            self.noise[rows],
            self.noisy[rows],
            self.target[rows],
            self.condition[rows],
            self.generator,
            self.digest,
        )


C_co = TypeVar("C_co", bound=MethodSettings, covariant=True)


class Method(Generic[C_co]):
    """A way to fine-tune a backbone.

    A subclass declares its settings as ``Config`` and overrides :meth:`attach`; everything else has a default that
    suits a method whose trained tensors are exactly the transformer's parameters that require a gradient after
    :meth:`attach`. Modules of subclasses import torch inside functions only, so that listing them stays quick.
    """

    Config: ClassVar[type[MethodSettings]] = MethodSettings
    version: ClassVar[str]
    """Changing what the method computes bumps it."""
    paper: ClassVar[str]
    """Where it comes from, and what is our own choice."""

    transformer: torch.nn.Module
    """Set by :meth:`attach`."""

    def __init__(self, config: C_co) -> None:
        self.config = config

    def supports(self, backbone: Backbone, task: Task[TaskSettings]) -> Skip | None:
        """None, or why the method does not apply here."""
        return None

    def attach(self, backbone: Backbone, task: Task[TaskSettings], generator: torch.Generator) -> None:
        """Add what is trained to the frozen backbone; fresh weights are drawn from ``generator`` alone.

        At step 0 the backbone's output must equal the base model's exactly, unless the method says why not.
        """
        raise NotImplementedError

    def detach(self) -> None:
        """Leave the backbone as it was before :meth:`attach`."""
        raise NotImplementedError

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Name → what the optimiser sees. A parameter without a gradient in a step keeps its value and state."""
        named = self.transformer.named_parameters()
        return {name: parameter for name, parameter in named if parameter.requires_grad}

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Only what the method owns."""
        return {name: parameter.detach() for name, parameter in self.parameters().items()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what :meth:`state_dict` gave; the names must match exactly."""
        own = self.parameters()
        if own.keys() != state.keys():
            odd = sorted(own.keys() ^ state.keys())[:3]
            raise ValueError(f"weights of another method or setting: {odd} do not match")
        for name, parameter in own.items():
            parameter.data.copy_(state[name])

    def condition(self, condition: Condition) -> AbstractContextManager[object]:
        """A context in which the forward pass of ``condition``'s samples runs; routing lives here."""
        return nullcontext()

    def sample_weights(self, counts: np.ndarray) -> np.ndarray | None:
        """How often an image of each class is drawn, from the train counts (classes,); None: all images alike."""
        return None

    def losses(self, batch: Batch, prediction: torch.Tensor) -> torch.Tensor:
        """The loss of each sample, (B,), from the network's prediction (B, ...): its mean squared error."""
        return (prediction - batch.target).square().flatten(1).mean(1)

    def auxiliary_loss(self, batch: Batch, prediction: torch.Tensor) -> torch.Tensor | None:
        """A scalar added to the mean of :meth:`losses`, after the forward pass that gave ``prediction``."""
        return None

    def export(self, folder: Path) -> str:
        """Write what was trained in a format of the method's own, too; Markdown that says how that loads.

        The method is attached, with its trained weights. Nothing is written where there is no such format.
        """
        return ""

    def artifacts(self) -> dict[str, JsonValue]:
        """File name → JSON to keep beside the record, such as the cluster map."""
        return {}

    def diagnostics(self) -> dict[str, JsonValue]:
        """What to log since the last call, for example expert usage; goes into the training log and the record."""
        return {}
