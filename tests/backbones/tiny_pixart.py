"""PixArt-α and PixArt-Σ in small: pipelines of the real classes, saved as real folders."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, PixArtAlphaPipeline, PixArtSigmaPipeline, PixArtTransformer2DModel
from diffusers.schedulers import DPMSolverMultistepScheduler
from helpers.tiny_pipelines import t5_text_encoder, t5_tokenizer

WIDTH = 48  # a multiple of three, as the sizes of α take a third each
PROMPT_WIDTH = 32


def autoencoder(scaling_factor: float) -> AutoencoderKL:
    """Stable Diffusion's, without a shift; two blocks make an image twice as wide as its latents.

    It has no attention, which is slow at the size of α.
    """
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        latent_channels=4,
        norm_num_groups=4,
        mid_block_add_attention=False,
        scaling_factor=scaling_factor,
    )


def transformer(**sizes: object) -> PixArtTransformer2DModel:
    """Two blocks, and as many output channels for the variance as for the mean."""
    return PixArtTransformer2DModel(
        num_attention_heads=3,
        attention_head_dim=16,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        cross_attention_dim=WIDTH,
        caption_channels=PROMPT_WIDTH,
        **sizes,
    )


def save_sigma(folder: Path, scratch: Path, sample_size: int = 8, patch_size: int = 2) -> Path:
    """Σ: latents of 8 and patches of 2; its pipeline of diffusers' knows no latents of less than 32."""
    torch.manual_seed(0)
    words = t5_tokenizer(scratch / "t5")
    PixArtSigmaPipeline(
        tokenizer=words,
        text_encoder=t5_text_encoder(PROMPT_WIDTH, words),
        vae=autoencoder(0.13025),
        transformer=transformer(sample_size=sample_size, patch_size=patch_size, use_additional_conditions=False),
        scheduler=DPMSolverMultistepScheduler(),
    ).save_pretrained(folder)
    return folder


def save_alpha(folder: Path, scratch: Path) -> Path:
    """α at its largest latents, 128, where it reads sizes; patches of 16 keep it small."""
    torch.manual_seed(0)
    words = t5_tokenizer(scratch / "t5")
    PixArtAlphaPipeline(
        tokenizer=words,
        text_encoder=t5_text_encoder(PROMPT_WIDTH, words),
        vae=autoencoder(0.18215),
        transformer=transformer(sample_size=128, patch_size=16),
        scheduler=DPMSolverMultistepScheduler(),
    ).save_pretrained(folder)
    return folder
