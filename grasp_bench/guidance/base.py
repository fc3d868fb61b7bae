"""The contract of a guidance: a per-step function of the model's predictions, applied while sampling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from grasp_bench.settings import Settings

if TYPE_CHECKING:
    import torch

C_co = TypeVar("C_co", bound=Settings, covariant=True)


@dataclass(frozen=True)
class Model:
    """The fine-tuned network as a guidance sees it, at one sampling step."""

    conditional: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    """(latents (B, ...), timesteps (B,)) → prediction under the samples' prompts."""
    unconditional: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    """The same under the null condition."""
    both: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    """(conditional, unconditional) from one forward pass of twice the batch."""


@dataclass(frozen=True)
class SamplingStep:
    """Where the sampler is on its way from noise to images."""

    index: int
    """From 0."""
    count: int
    """Steps in all."""
    timesteps: torch.Tensor
    """(B,), in [0, 1]; 1 is noise."""
    next_timesteps: torch.Tensor
    """(B,), where the sampler goes next."""
    memory: dict[str, torch.Tensor]
    """Kept from step to step of one batch's way, empty at its start; for momentum and the like."""


class Guidance(Generic[C_co]):
    """A way to sample from a fine-tuned backbone; combines with every method without retraining."""

    Config: ClassVar[type[Settings]] = Settings
    version: ClassVar[str]
    paper: ClassVar[str]

    def __init__(self, config: C_co) -> None:
        self.config = config

    def predict(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> torch.Tensor:
        """The prediction that the sampler follows from noisy ``latents`` (B, ...) at ``step``."""
        raise NotImplementedError
