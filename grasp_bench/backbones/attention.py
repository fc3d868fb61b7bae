"""How diffusers' transformers name their attention layers, for the families that share the naming."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def image_attentions(transformer: nn.Module) -> dict[str, nn.Module]:
    """Name → layer of diffusers' ``Attention`` class that is no cross-attention, in the order of the forward pass."""
    from diffusers.models.attention_processor import Attention

    named = transformer.named_modules()
    return {name: layer for name, layer in named if isinstance(layer, Attention) and not layer.is_cross_attention}


def joint_projections(transformer: nn.Module) -> dict[str, tuple[str, str]]:
    """Joint attention layer → names of the projections that it adds for the prompt's keys and values."""
    layers = [name for name, _ in transformer.named_modules() if name.endswith("attn")]
    joint = [name for name in layers if getattr(transformer.get_submodule(name), "add_k_proj", None) is not None]
    return {name: (f"{name}.add_k_proj", f"{name}.add_v_proj") for name in joint}


def cross_projections(transformer: nn.Module) -> dict[str, tuple[str, str]]:
    """Cross-attention layer, the second attention of its block, → names of its projections to keys and values."""
    layers = [name for name, _ in transformer.named_modules() if name.endswith("attn2")]
    return {name: (f"{name}.to_k", f"{name}.to_v") for name in layers}
