"""The contract of a backbone: a pretrained transformer, its prompt encoder, autoencoder and objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import JsonValue

from grasp_bench.contracts.recipe import PLAIN, BackboneRecipe

if TYPE_CHECKING:
    import torch

    from grasp_bench.contracts.objective import Objective


@dataclass(frozen=True)
class PromptEmbeddings:
    """The embeddings of B prompts; a family of backbones has those that its transformer reads."""

    tokens: torch.Tensor
    """The prompts' tokens (B, T, D), or class indices int64 (B, 1)."""
    pooled: torch.Tensor | None = None
    """One vector for each prompt, (B, P); None where the transformer reads none."""
    mask: torch.Tensor | None = None
    """Which tokens the transformer attends to, bool (B, T); None where it attends to all."""
    padding: torch.Tensor | None = None
    """Which tokens stand for no part of the prompt, bool (B, T), though the transformer may attend to them; None where
    that is unknown or the mask says it."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """Name → tensor, without those that are None."""
        return {name: tensor for name, tensor in vars(self).items() if tensor is not None}

    def __getitem__(self, index: torch.Tensor | slice) -> PromptEmbeddings:
        return self._each(lambda name, tensor: tensor[index])

    def to(self, like: torch.Tensor) -> PromptEmbeddings:
        """The embeddings on the device of ``like``, and in its precision unless they are integers."""
        from grasp_bench.processes import sent

        def near(name: str, tensor: torch.Tensor) -> torch.Tensor:
            return sent(tensor.to(like.dtype) if tensor.is_floating_point() else tensor, like.device)

        return self._each(near)

    def cat(self, other: PromptEmbeddings) -> PromptEmbeddings:
        """The rows of ``self``, then those of ``other``."""
        import torch

        others = other.tensors()
        return self._each(lambda name, tensor: torch.cat([tensor, others[name]]))

    def where(self, keep: torch.Tensor, other: PromptEmbeddings) -> PromptEmbeddings:
        """Rows of ``self`` where ``keep`` (B,) is true, rows of ``other`` elsewhere."""
        others = other.tensors()
        return self._each(lambda name, tensor: tensor.where(keep.reshape(-1, *[1] * (tensor.ndim - 1)), others[name]))

    def _each(self, change: Callable[[str, torch.Tensor], torch.Tensor]) -> PromptEmbeddings:
        return PromptEmbeddings(**{name: change(name, tensor) for name, tensor in self.tensors().items()})


@dataclass(frozen=True)
class Description:
    """What is known of a backbone before any weight is loaded."""

    revision: str
    """Enters a run's identity; for shipped weights, the start of their sha256."""
    image_shape: tuple[int, int, int]
    """(C, H, W) of the images it reads and makes."""
    autoencoder: str | None = None
    """Hash of what turns images into latents; None where the latent is the image."""
    text_encoder: str | None = None
    """Hash of what turns prompts into embeddings; None where that costs nothing."""
    recipe: BackboneRecipe = PLAIN
    """How it is fine-tuned and sampled from."""
    native: int | None = None
    """Pixels a side that its weights are made for; None where there is no choice."""
    settings: Mapping[str, JsonValue] = field(default_factory=dict)
    """Resolution and figures of the recipe that enter a run's identity as settings of the backbone."""


@dataclass(frozen=True)
class Block:
    """One block of a transformer, called as diffusers' are.

    Its first argument, ``hidden_states``, is the image's tokens (B, N, D). A ``joint`` block is also given the prompt's
    tokens (B, T, D), as ``encoder_hidden_states``. It returns the image's tokens, or the prompt's and the image's.
    """

    module: torch.nn.Module
    joint: bool = False
    """Whether prompt and image are one sequence to it, so that the prompt's tokens are as wide as the image's."""
    returns_prompt: bool = False
    """Whether it returns the prompt's tokens before the image's."""


@dataclass(frozen=True)
class ChosenBackbone:
    """A backbone before it is loaded."""

    family: str
    """The backbone's name in the registry."""
    kind: type[Backbone]
    source: str
    name: str
    """What ``--backbone`` takes for it, or its family and the start of its revision."""
    description: Description
    resolution: int | None = None
    """Pixels a side that were asked for; None for the native ones."""

    @property
    def label(self) -> str:
        """The backbone's name in results, with its resolution where it has a choice."""
        return self.name if self.description.native is None else f"{self.name}@{self.image_shape[-1]}"

    @property
    def recipe(self) -> BackboneRecipe:
        """How it is fine-tuned and sampled from."""
        return self.description.recipe

    def is_usual(self, preferred: int | None) -> bool:
        """Whether its resolution is the ``preferred`` one or, where it does not support that, its native one."""
        usual = preferred if preferred in self.recipe.resolutions else self.description.native
        return self.description.native is None or self.image_shape[-1] == usual

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images it reads and makes."""
        return self.description.image_shape

    def load(self) -> Backbone:
        """The pretrained backbone, frozen and in evaluation mode."""
        return self.kind.load(self.source, self.resolution)


class Backbone:
    """A pretrained text-to-image transformer that methods fine-tune.

    Modules of subclasses import torch and diffusers inside functions only, so that listing them stays quick.
    """

    attention_projections: ClassVar[tuple[str, ...]]
    """Name endings of the attention's linear layers, the usual targets of LoRA."""
    sampling_dtype: ClassVar[str]
    """Precision of latents while sampling, a torch dtype's name."""
    needs_all_tokens: ClassVar[str] = "its backbone does not say that blocks can work on some of an image's tokens"
    """Why :meth:`blocks` cannot be given a subset of each image's tokens, as a clause; empty where they can."""
    threads: ClassVar[int | None] = None
    """Threads of a CPU that a run takes unless it is told otherwise; None for as many as torch takes."""
    caution: ClassVar[str] = ""
    """What headings of tables say where the task asks for a real backbone; empty for a backbone that is one."""

    recipe: BackboneRecipe = PLAIN
    """How the family is fine-tuned and sampled from; an instance has that of its own weights."""
    recipes: ClassVar[Mapping[str, BackboneRecipe]] = {}
    """Alias → recipe, of members that differ from the family's."""
    latent_shape: tuple[int, int, int]
    """The shape (C, H, W) of the latents that the transformer works on."""
    transformer: torch.nn.Module
    """The network that methods adapt; only :meth:`predict` calls it, so that a wrapper may take its place."""
    objective: Objective
    """How latents are noised and what the transformer predicts."""

    @classmethod
    def describe(cls, source: str, resolution: int | None = None) -> Description:
        """What ``source`` names, with no weight loaded.

        ``source`` is what follows the name and a colon, as in ``sd3:/models/sd3.5-medium``; empty where nothing does.
        ``resolution`` is that of images in pixels a side, None for the native one.
        Raises :class:`UserError` for a source that is not there, or that this backbone does not take, and for a
        resolution that it does not support.
        """
        raise NotImplementedError

    @classmethod
    def download(cls, source: str, say: Callable[[str], None]) -> None:
        """Fetch what ``source`` names and is not here; only ever called when the user allows it.

        ``say`` is told what is fetched and how large it is. Raises :class:`UserError` where that cannot be.
        """

    @classmethod
    def load(cls, source: str = "", resolution: int | None = None) -> Self:
        """The pretrained backbone on the CPU, frozen and in evaluation mode."""
        raise NotImplementedError

    def to(self, device: torch.device) -> Self:
        """The backbone itself; its transformer is on ``device``, and encoders work there when they are asked."""
        self.transformer.to(device)
        return self

    def encode_on(self, device: torch.device) -> Self:
        """The backbone itself; encoders work on ``device`` when they are asked, for which no transformer is needed.

        Images and prompts are encoded for training after this call, and :meth:`to` comes later. A backbone with large
        encoders leaves its transformer where it is, so that the device never holds both; others need not override this.
        """
        return self.to(device)

    def prepare_sampling(self) -> None:
        """Called before images are made; what a transformer is told may differ from training then."""

    def leave_out_guidance(self) -> None:
        """Called after :meth:`prepare_sampling` where no guidance is wanted, not even one distilled into weights."""

    def set_classes(self, prompts: Sequence[str]) -> None:
        """Learn the prompts of a task's classes, in order; only what is conditioned on classes needs to.

        Called once, before any prompt is encoded. Raises :class:`UserError` for classes it cannot tell apart.
        """

    def release_encoders(self) -> None:
        """Drop what encodes images and prompts from memory; asked again, it is loaded again."""

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, C, H, W) → latents (B, *latent_shape)."""
        raise NotImplementedError

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents → images (B, C, H, W), about in [-1, 1] and not clipped, through which a gradient may flow."""
        raise NotImplementedError

    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents → uint8 (B, C, H, W)."""
        raise NotImplementedError

    def encode_prompts(self, prompts: list[str]) -> PromptEmbeddings:
        """Embeddings of the prompts, on the CPU; the empty prompt is the null condition."""
        raise NotImplementedError

    def predict(self, latents: torch.Tensor, timesteps: torch.Tensor, prompts: PromptEmbeddings) -> torch.Tensor:
        """What the objective asks for, at noisy latents (B, ...) and timesteps (B,) in [0, 1]."""
        raise NotImplementedError

    def feed_forwards(self) -> dict[str, torch.nn.Module]:
        """Name → feed-forward module, of every block and stream, in the order of the forward pass."""
        from diffusers.models.attention import FeedForward

        return {name: module for name, module in self.transformer.named_modules() if isinstance(module, FeedForward)}

    def prompt_feed_forwards(self) -> set[str]:
        """Names of those of :meth:`feed_forwards` that work on the prompt's tokens (B, T, D) alone."""
        return set()

    def blocks(self) -> list[Block]:
        """The blocks in the order of the forward pass; empty where none is called as :class:`Block` says.

        Methods that read or route their tokens are then skipped.
        """
        return []

    def image_tokens(self, latents: torch.Tensor) -> int:
        """How many tokens the transformer makes of each of the latents (B, C, H, W)."""
        config: Any = self.transformer.config
        height, width = latents.shape[-2:]
        return int(height // config.patch_size * (width // config.patch_size))

    def conditioning(self) -> torch.nn.Module | None:
        """The module whose output, or the last of several, is what the blocks are modulated by; None without one.

        That is the embedding (B, D) of the timestep and of further conditions. It is called once in each forward pass,
        before the blocks.
        """
        return None

    def output_norm(self) -> torch.nn.Module | None:
        """The first layer after the last block, whose first argument is the image's tokens; None: there is no such."""
        return None

    def image_attentions(self) -> dict[str, torch.nn.Module]:
        """Name → layer of diffusers' ``Attention`` class in which the image's tokens attend to each other.

        They may attend to the prompt's too. Layers are in the order of the forward pass.
        """
        return {}

    def prompt_projections(self) -> dict[str, tuple[str, str]]:
        """Attention layer → names of its projections to the keys and the values of the prompt's tokens.

        Layers are in the order of the forward pass.
        """
        return {}

    def prompt_width(self) -> int | None:
        """Width of the pooled embedding or, without one, of the prompt's tokens; None where it is unknown.

        For class indices it is their number, with the null class.
        """
        return None

    def enable_gradient_checkpointing(self) -> None:
        """Recompute activations in the backward pass instead of keeping them; routes and gates stay intact."""
        from grasp_bench.contracts.scope import checkpoint

        self.transformer.enable_gradient_checkpointing(checkpoint)  # type: ignore[operator] # diffusers' models have it

    def scheduler(self, steps: int, device: torch.device) -> Any:
        """A fresh, deterministic scheduler of diffusers' whose ``timesteps`` are set for ``steps`` sampling steps."""
        raise NotImplementedError
