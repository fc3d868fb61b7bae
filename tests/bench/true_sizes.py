"""Transformers of published backbones, with random weights: what a step costs does not depend on what they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers import PixArtTransformer2DModel, SD3Transformer2DModel
from diffusers.schedulers import DPMSolverMultistepScheduler

from grasp_bench import seeds
from grasp_bench.backbones.pixart import PixArt
from grasp_bench.backbones.sd3 import MMDiT
from grasp_bench.contracts.backbone import PromptEmbeddings
from grasp_bench.contracts.objective import FlowMatching, VariancePreserving

PIXELS = 8  # that a latent is wide, in both

SD35_MEDIUM: dict[str, Any] = {
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 24,
    "attention_head_dim": 64,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1536,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 384,
    "dual_attention_layers": tuple(range(13)),
    "qk_norm": "rms_norm",
}
"""transformer/config.json of stabilityai/stable-diffusion-3.5-medium: 2,243,171,520 parameters."""

PIXART_SIGMA: dict[str, Any] = {
    "patch_size": 2,
    "in_channels": 4,
    "out_channels": 8,
    "num_layers": 28,
    "attention_head_dim": 72,
    "num_attention_heads": 16,
    "cross_attention_dim": 1152,
    "caption_channels": 4096,
    "use_additional_conditions": False,
}
"""transformer/config.json of PixArt-alpha/PixArt-Sigma-XL-2-1024-MS: 610,856,096 parameters.

Its ``sample_size``, like that of PixArt-Sigma-XL-2-512-MS, is the side of the latents.
"""


class RandomMMDiT(MMDiT):
    """SD3's transformer; it neither encodes nor decodes."""

    sampling_dtype: ClassVar[str] = "float32"

    def __init__(self, config: dict[str, Any], prompt_tokens: int, side: int, device: torch.device) -> None:
        self.latent_shape = (config["in_channels"], side, side)
        self.objective = FlowMatching()
        self.transformer = random_weights(SD3Transformer2DModel, config, device)
        self.prompt_tokens = prompt_tokens

    def random_prompts(self, count: int, device: torch.device) -> PromptEmbeddings:
        """Tokens (B, T, D) and pooled (B, P)."""
        config = self.transformer.config
        tokens = torch.randn(count, self.prompt_tokens, config.joint_attention_dim, device=device)
        return PromptEmbeddings(tokens, torch.randn(count, config.pooled_projection_dim, device=device))


class RandomPixArt(PixArt):
    """PixArt-Σ's transformer; it neither encodes nor decodes."""

    def __init__(self, config: dict[str, Any], prompt_tokens: int, side: int, device: torch.device) -> None:
        self.latent_shape = (config["in_channels"], side, side)
        self.objective = VariancePreserving.of(DPMSolverMultistepScheduler())
        self.transformer = random_weights(PixArtTransformer2DModel, config | {"sample_size": side}, device)
        self.reads_size = False
        self.prompt_tokens = prompt_tokens

    def random_prompts(self, count: int, device: torch.device) -> PromptEmbeddings:
        """Tokens (B, T, D), and a mask (B, T) of prompts of any length."""
        tokens = torch.randn(count, self.prompt_tokens, self.transformer.config.caption_channels, device=device)
        lengths = torch.randint(1, self.prompt_tokens + 1, (count, 1), device=device)
        return PromptEmbeddings(tokens, mask=torch.arange(self.prompt_tokens, device=device) < lengths)


def random_weights(kind: type[torch.nn.Module], config: dict[str, Any], device: torch.device) -> Any:
    """A frozen model of random weights in float32, made on ``device``."""
    with seeds.global_seed(seeds.generator("init", "true-sizes")), torch.device(device):
        return kind(**config).requires_grad_(False).train()


@dataclass(frozen=True)
class Model:
    """A backbone's transformer at some size."""

    name: str
    kind: Callable[[dict[str, Any], int, int, torch.device], RandomMMDiT | RandomPixArt]
    config: dict[str, Any]
    prompt_tokens: int

    def make(self, side: int, device: torch.device) -> RandomMMDiT | RandomPixArt:
        """The transformer for latents of ``side`` × ``side``."""
        return self.kind(self.config, self.prompt_tokens, side, device)


PUBLISHED = (
    Model("SD3.5-medium", RandomMMDiT, SD35_MEDIUM, 77 + 256),  # CLIP's tokens, then T5's
    Model("PixArt-Σ", RandomPixArt, PIXART_SIGMA, 300),
)

TINY = (
    Model(
        "tiny SD3.5",
        RandomMMDiT,
        SD35_MEDIUM
        | {
            "sample_size": 16,
            "num_layers": 2,
            "num_attention_heads": 2,
            "joint_attention_dim": 64,
            "caption_projection_dim": 128,
            "pooled_projection_dim": 32,
            "pos_embed_max_size": 16,
            "dual_attention_layers": (0,),
        },
        6,
    ),
    Model(
        "tiny PixArt-Σ",
        RandomPixArt,
        PIXART_SIGMA
        | {
            "num_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 3,
            "cross_attention_dim": 48,
            "caption_channels": 64,
        },
        6,
    ),
)
