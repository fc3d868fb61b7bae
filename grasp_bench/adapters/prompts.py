"""What is known of the prompts that a transformer reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grasp_bench.contracts.backbone import Backbone


def token_width(backbone: Backbone) -> int | None:
    """Return the width of the prompt's tokens; None where the transformer is given none."""
    config: Any = backbone.transformer.config
    names = ("caption_channels", "joint_attention_dim", "cross_attention_dim")  # as diffusers' families have it
    return next((config[name] for name in names if config.get(name)), None)
