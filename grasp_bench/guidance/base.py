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


class Guidance(Generic[C_co]):
    """A way to sample from a fine-tuned backbone; combines with every method without retraining."""

    Config: ClassVar[type[Settings]] = Settings
    version: ClassVar[str]
    paper: ClassVar[str]

    def __init__(self, config: C_co) -> None:
        self.config = config

    def predict(self, model: Model, latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The prediction that the sampler follows at noisy ``latents`` (B, ...) and ``timesteps`` (B,)."""
        raise NotImplementedError
