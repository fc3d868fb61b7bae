"""Stable Diffusion 3's transformer at half a million parameters, on 8×8 grey pixels, shipped with its weights.

Pretrained on rendered DejaVu glyphs by ``python -m grasp_bench.backbones.pretrain_glyphs``. It has no autoencoder
(a latent is the image in [-1, 1]) and its prompt encoder needs no download; everything else is the code path that
SD3.5 takes: diffusers' ``SD3Transformer2DModel``, flow matching, Euler sampling.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from grasp_bench.backbones.base import Backbone, PromptEmbeddings

if TYPE_CHECKING:
    import torch
    from diffusers import SD3Transformer2DModel
    from diffusers.schedulers import FlowMatchEulerDiscreteScheduler

WEIGHTS = Path(__file__).parent / "weights" / "tiny-sd3.safetensors"
CARD = WEIGHTS.with_suffix(".json")
PROMPT_WIDTH = 64
PROMPT_LENGTH = 12  # words
TIMESTEP_SCALE = 1000  # the transformer's clock runs to 1000, ours to 1


def build_transformer() -> SD3Transformer2DModel:
    """The transformer with fresh weights drawn from torch's global generator."""
    from diffusers import SD3Transformer2DModel

    return SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=1,
        out_channels=1,
        num_layers=4,
        attention_head_dim=32,
        num_attention_heads=2,
        joint_attention_dim=PROMPT_WIDTH,
        caption_projection_dim=64,
        pooled_projection_dim=PROMPT_WIDTH,
        pos_embed_max_size=4,
    )


class TinySD3(Backbone):
    """SD3's transformer at 0.6 M parameters on 8×8 grey pixels, pretrained on printed glyphs; ships with the package

    Prompts are any words, at most 12 of them.
    """

    revision: ClassVar[str] = json.loads(CARD.read_text())["sha256"][:12]
    image_shape: ClassVar[tuple[int, int, int]] = (1, 8, 8)
    sampling_dtype: ClassVar[str] = "float64"  # cheap at this size, and images cannot depend on the batch's size
    attention_projections: ClassVar[tuple[str, ...]] = (
        "attn.to_q",
        "attn.to_k",
        "attn.to_v",
        "attn.to_out.0",
        "attn.add_q_proj",
        "attn.add_k_proj",
        "attn.add_v_proj",
        "attn.to_add_out",
    )

    transformer: SD3Transformer2DModel

    def __init__(self, transformer: SD3Transformer2DModel) -> None:
        from grasp_bench.backbones.objective import FlowMatching
        from grasp_bench.backbones.words import WordEncoder

        self.transformer = transformer
        self.objective = FlowMatching()
        self.encode_words = WordEncoder(PROMPT_WIDTH, PROMPT_LENGTH)

    @classmethod
    def load(cls) -> Self:
        import torch

        from grasp_bench.io import file_digest, read_tensors

        expected = json.loads(CARD.read_text())["sha256"]
        if file_digest(WEIGHTS) != expected:
            raise RuntimeError(f"{WEIGHTS} is not the file that {CARD.name} describes (sha256 {expected})")
        with torch.random.fork_rng(
            devices=[]
        ):  # the weights drawn here are replaced, so the draw should leave no trace
            transformer = build_transformer()
        transformer.load_state_dict(read_tensors(WEIGHTS))
        return cls(transformer.requires_grad_(False).eval())

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        return images.float() / 127.5 - 1

    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        return ((latents + 1) * 127.5).round().clamp(0, 255).byte()

    def encode_prompts(self, prompts: list[str]) -> PromptEmbeddings:
        return self.encode_words(prompts)

    def predict(self, latents: torch.Tensor, timesteps: torch.Tensor, prompts: PromptEmbeddings) -> torch.Tensor:
        output: torch.Tensor = self.transformer(
            latents,
            encoder_hidden_states=prompts.tokens,
            pooled_projections=prompts.pooled,
            timestep=timesteps * TIMESTEP_SCALE,
            return_dict=False,
        )[0]
        return output

    def feed_forwards(self) -> dict[str, torch.nn.Module]:
        from diffusers.models.attention import FeedForward

        return {name: module for name, module in self.transformer.named_modules() if isinstance(module, FeedForward)}

    def enable_gradient_checkpointing(self) -> None:
        from grasp_bench.adapters.scope import checkpoint

        self.transformer.enable_gradient_checkpointing(checkpoint)

    def scheduler(self) -> FlowMatchEulerDiscreteScheduler:
        from diffusers.schedulers import FlowMatchEulerDiscreteScheduler

        return FlowMatchEulerDiscreteScheduler()
