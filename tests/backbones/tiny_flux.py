"""FLUX.1 in small: the real classes, saved as a real folder."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel
from diffusers.schedulers import FlowMatchEulerDiscreteScheduler
from helpers.tiny_pipelines import clip_tokenizer, t5_text_encoder, t5_tokenizer
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer


def clip_text_model(width: int, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=77,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def flux_autoencoder(sample_size: int) -> AutoencoderKL:
    """With the shift and scale of FLUX.1's; three blocks make an image four times as wide as its latents."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 16),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=sample_size,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def flux_pipeline(scratch: Path, dev: bool = True, sample_size: int = 32) -> FluxPipeline:
    """Two double blocks and one single; dev reads a guidance and shifts its schedule, schnell does neither."""
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=24,
        pooled_projection_dim=16,
        guidance_embeds=dev,
        axes_dims_rope=(4, 6, 6),
    )
    clip, t5 = clip_tokenizer(scratch / "clip"), t5_tokenizer(scratch / "t5")
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0 if dev else 1.0, use_dynamic_shifting=dev),
        vae=flux_autoencoder(sample_size),
        text_encoder=clip_text_model(16, clip),
        tokenizer=clip,
        text_encoder_2=t5_text_encoder(24, t5),
        tokenizer_2=t5,
        transformer=transformer,
    )


def save_flux(folder: Path, scratch: Path, dev: bool = True, sample_size: int = 32) -> Path:
    """A pipeline folder as ``save_pretrained`` writes it."""
    flux_pipeline(scratch, dev, sample_size).save_pretrained(folder)
    return folder
