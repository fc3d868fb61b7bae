"""Stable Diffusion 1.5 in small: a U-Net's pipeline of the real class, saved as a real folder, and LoRAs for it."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from helpers.tiny_pipelines import clip_text_encoder, clip_tokenizer

WIDTH, RANK = 32, 2
LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


def save_unet(folder: Path, scratch: Path) -> Path:
    """Latents of 8 and images of 16 pixels a side."""
    torch.manual_seed(0)
    words = clip_tokenizer(scratch / "clip")
    StableDiffusionPipeline(
        unet=UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=WIDTH,
            attention_head_dim=4,
            norm_num_groups=4,
        ),
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8),
            latent_channels=4,
            norm_num_groups=4,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=WIDTH,
                intermediate_size=WIDTH,
                num_hidden_layers=2,
                num_attention_heads=2,
                bos_token_id=words.bos_token_id,
                eos_token_id=words.eos_token_id,
                pad_token_id=words.pad_token_id,
            )
        ),
        tokenizer=words,
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def save_loras(folder: Path, width: int = 8) -> tuple[Path, Path]:
    """One LoRA of one layer, in peft's layout and in kohya's."""
    folder.mkdir()
    stream = torch.Generator().manual_seed(0)
    down, up = torch.randn(RANK, width, generator=stream), torch.randn(width, RANK, generator=stream)
    save_file({f"unet.{LAYER}.lora_A.weight": down, f"unet.{LAYER}.lora_B.weight": up}, folder / "peft.safetensors")
    flat = f"lora_unet_{LAYER.replace('.', '_')}"
    kohya = {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(float(RANK))}
    save_file({f"{flat}.{name}": each for name, each in kohya.items()}, folder / "kohya.safetensors")
    return folder / "peft.safetensors", folder / "kohya.safetensors"


def save_sdxl(folder: Path, scratch: Path) -> Path:
    """Stable Diffusion XL in small: two text encoders and conditions on the size; latents of 8, images of 16 pixels."""
    torch.manual_seed(0)
    words, others = clip_tokenizer(scratch / "clip-l"), clip_tokenizer(scratch / "clip-g")
    plain, pooled = clip_text_encoder(WIDTH, words), clip_text_encoder(WIDTH, others)
    StableDiffusionXLPipeline(
        unet=UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=2 * WIDTH,
            attention_head_dim=4,
            norm_num_groups=4,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=WIDTH + 6 * 8,
        ),
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8),
            latent_channels=4,
            norm_num_groups=4,
        ),
        text_encoder=CLIPTextModel(plain.config),
        text_encoder_2=pooled,
        tokenizer=words,
        tokenizer_2=others,
        scheduler=EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1),
    ).save_pretrained(folder)
    return folder
