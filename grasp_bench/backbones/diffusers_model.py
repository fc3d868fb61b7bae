"""How diffusers' transformers name their parts, as far as the families agree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from grasp_bench.contracts.backbone import Backbone, Block

if TYPE_CHECKING:
    import torch

JOINT_ATTENTION = (
    "attn.to_q",
    "attn.to_k",
    "attn.to_v",
    "attn.to_out.0",
    "attn.add_q_proj",
    "attn.add_k_proj",
    "attn.add_v_proj",
    "attn.to_add_out",
)
"""Projections of the joint attention of image and prompt."""
FIRST_ATTENTION = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0")
"""Projections of the image's attention to itself, where a block may have another attention."""
SECOND_ATTENTION = ("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0")
"""Projections of a block's second attention, in most families that of the image to the prompt."""


class DiffusersBackbone(Backbone):
    """A backbone with a transformer of diffusers'."""

    needs_all_tokens: ClassVar[str] = ""
    prompt_setting: ClassVar[str]
    """The value in the transformer's configuration that is the width of the prompt."""

    transformer: Any

    def blocks(self) -> list[Block]:
        return [Block(block) for block in self.transformer.transformer_blocks]

    def prompt_feed_forwards(self) -> set[str]:
        """Names of the feed-forward layers of joint blocks' second stream, which holds the prompt."""
        return {name for name in self.feed_forwards() if name.endswith("ff_context")}

    def output_norm(self) -> torch.nn.Module:
        return self.transformer.norm_out  # type: ignore[no-any-return] # untyped in diffusers

    def image_attentions(self) -> dict[str, torch.nn.Module]:
        return image_attentions(self.transformer)

    def prompt_projections(self) -> dict[str, tuple[str, str]]:
        """The projections that joint attention adds for the prompt, or else those of the second attention of a block.

        In FLUX.1's single blocks the prompt has no projections of its own.
        """
        named = dict(self.transformer.named_modules())
        joint = [name for name in named if name.endswith("attn") and getattr(named[name], "add_k_proj", None)]
        if joint:
            return {name: (f"{name}.add_k_proj", f"{name}.add_v_proj") for name in joint}
        return {name: (f"{name}.to_k", f"{name}.to_v") for name in named if name.endswith("attn2")}

    def prompt_width(self) -> int:
        return int(self.transformer.config[self.prompt_setting])


def padding(tokenizer: Any, prompts: list[str], length: int) -> torch.Tensor:
    """Which of the tokens that each of B prompts is padded or cut to are padding: bool (B, length)."""
    found = tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    is_padding: torch.Tensor = found.attention_mask == 0
    return is_padding


def place_patches(embed: Any, latent_shape: tuple[int, int, int]) -> None:
    """Put the position embeddings of latents (C, H, W) into a ``PatchEmbed`` whose table is of another size.

    They are what its forward pass would compute in every step: positions are scaled so that they span what those
    of the native size do. Nothing is done where it has none (Sana), or where it crops a larger table (SD3).
    """
    import torch
    from diffusers.models.embeddings import get_2d_sincos_pos_embed

    height, width = (side // embed.patch_size for side in latent_shape[1:])
    table = getattr(embed, "pos_embed", None)
    if table is None or embed.pos_embed_max_size or (embed.height, embed.width) == (height, width):
        return
    scale = {"base_size": embed.base_size, "interpolation_scale": embed.interpolation_scale}
    placed = get_2d_sincos_pos_embed(table.shape[-1], (height, width), output_type="pt", device=table.device, **scale)
    embed.pos_embed = placed.to(torch.float32)[None]
    embed.height, embed.width = height, width


def finer_positions(embed: Any, latent_shape: tuple[int, int, int], factor: int) -> torch.Tensor | None:
    """Return position embeddings (1, tokens, width) of latents with ``factor`` times the sides of (C, H, W).

    They lie between those of (C, H, W): ``factor`` a side where there was one. None where a ``PatchEmbed`` needs none,
    since it has no table, computes positions for every size, or has a table that is large enough to crop from.
    """
    import torch
    from diffusers.models.embeddings import get_2d_sincos_pos_embed_from_grid

    largest = getattr(embed, "pos_embed_max_size", None)
    native = [side // embed.patch_size for side in latent_shape[1:]] if largest else []
    if not largest or factor * max(native) <= largest:
        return None
    spacing = embed.base_size / largest / embed.interpolation_scale
    rows, columns = (
        ((largest - side) // 2 + torch.arange(factor * side, dtype=torch.float64) / factor) * spacing for side in native
    )
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"))[:, None]
    width = embed.pos_embed.shape[-1]
    found: torch.Tensor = get_2d_sincos_pos_embed_from_grid(width, grid, output_type="pt")
    return found.to(torch.float32)[None]


@contextmanager
def placed(embed: Any, table: torch.Tensor, sides: tuple[int, int]) -> Iterator[None]:
    """Give a ``PatchEmbed`` other position embeddings (1, tokens, width), of latents of these sides (H, W)."""
    before = embed.pos_embed, embed.height, embed.width, embed.pos_embed_max_size
    height, width = (side // embed.patch_size for side in sides)
    embed.pos_embed, embed.height, embed.width, embed.pos_embed_max_size = table, height, width, None
    try:
        yield
    finally:
        embed.pos_embed, embed.height, embed.width, embed.pos_embed_max_size = before


def image_attentions(transformer: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """Name → layer of diffusers' ``Attention`` class that is no cross-attention, in the order of the forward pass."""
    from diffusers.models.attention_processor import Attention

    named = transformer.named_modules()
    return {name: layer for name, layer in named if isinstance(layer, Attention) and not layer.is_cross_attention}
