"""The contract of a backbone: a pretrained transformer, its prompt encoder, autoencoder and objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from grasp_bench.errors import UserError

if TYPE_CHECKING:
    import torch
    from diffusers.schedulers import FlowMatchEulerDiscreteScheduler

    from grasp_bench.backbones.objective import FlowMatching


@dataclass(frozen=True)
class PromptEmbeddings:
    """Encoded prompts: ``tokens`` (B, T, D) and ``pooled`` (B, P)."""

    tokens: torch.Tensor
    pooled: torch.Tensor

    def __getitem__(self, index: torch.Tensor | slice) -> PromptEmbeddings:
        return PromptEmbeddings(self.tokens[index], self.pooled[index])

    def to(self, like: torch.Tensor) -> PromptEmbeddings:
        """The same embeddings on the device and in the precision of ``like``."""
        return PromptEmbeddings(self.tokens.to(like), self.pooled.to(like))

    def cat(self, other: PromptEmbeddings) -> PromptEmbeddings:
        """The rows of ``self``, then those of ``other``."""
        import torch

        return PromptEmbeddings(torch.cat([self.tokens, other.tokens]), torch.cat([self.pooled, other.pooled]))

    def where(self, keep: torch.Tensor, other: PromptEmbeddings) -> PromptEmbeddings:
        """Rows of ``self`` where ``keep`` (B,) is true, rows of ``other`` elsewhere."""
        return PromptEmbeddings(
            self.tokens.where(keep[:, None, None], other.tokens), self.pooled.where(keep[:, None], other.pooled)
        )


@dataclass(frozen=True)
class ChosenBackbone:
    """A backbone before it is loaded."""

    kind: type[Backbone]
    source: str
    revision: str
    image_shape: tuple[int, int, int]
    """(C, H, W)"""

    def load(self) -> Backbone:
        """The pretrained backbone on the CPU, frozen and in evaluation mode."""
        return self.kind.load(self.source)


class Backbone:
    """A pretrained text-to-image transformer that methods fine-tune.

    Modules of subclasses import torch and diffusers inside functions only, so that listing them stays quick.
    """

    revision: str
    """Enters a run's identity; for shipped weights, the start of their sha256."""
    image_shape: tuple[int, int, int]
    """(C, H, W) of the images it reads and makes."""
    attention_projections: ClassVar[tuple[str, ...]]
    """Name endings of the attention's linear layers, the usual targets of LoRA."""
    sampling_dtype: ClassVar[str]
    """Precision of sampling, a torch dtype's name."""

    transformer: torch.nn.Module
    objective: FlowMatching

    @classmethod
    def describe(cls, source: str) -> tuple[str, tuple[int, int, int]]:
        """Revision and (C, H, W) of the images of what ``source`` names, with no weight loaded.

        ``source`` is what follows the name and a colon, as in ``sd3:/models/sd3.5-medium``; empty where nothing does.
        Raises :class:`UserError` for a source that is not there, or that this backbone does not take.
        """
        if source:
            raise UserError(f"backbone {cls.__name__} ships with its weights: leave out {':' + source!r}.")
        return cls.revision, cls.image_shape

    @classmethod
    def load(cls, source: str = "") -> Self:
        """The pretrained backbone on the CPU, frozen and in evaluation mode."""
        raise NotImplementedError

    def to(self, device: torch.device) -> Self:
        """The backbone itself, all that training and sampling need of it on ``device``."""
        self.transformer.to(device)
        return self

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, C, H, W) → latents."""
        raise NotImplementedError

    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents → uint8 (B, C, H, W)."""
        raise NotImplementedError

    def encode_prompts(self, prompts: list[str]) -> PromptEmbeddings:
        """Embeddings of the prompts; the empty prompt is the null condition."""
        raise NotImplementedError

    def predict(self, latents: torch.Tensor, timesteps: torch.Tensor, prompts: PromptEmbeddings) -> torch.Tensor:
        """What the objective asks for, at noisy latents (B, ...) and timesteps (B,) in [0, 1]."""
        raise NotImplementedError

    def feed_forwards(self) -> dict[str, torch.nn.Module]:
        """Name → feed-forward module, of every block and stream, in the order of the forward pass."""
        raise NotImplementedError

    def enable_gradient_checkpointing(self) -> None:
        """Recompute activations in the backward pass instead of keeping them; routes and gates stay intact."""
        raise NotImplementedError

    def scheduler(self) -> FlowMatchEulerDiscreteScheduler:
        """A fresh scheduler for sampling."""
        raise NotImplementedError
