"""Sana in small: the real classes, saved as a real folder."""

from pathlib import Path

import torch
from diffusers import AutoencoderDC, SanaPipeline, SanaTransformer2DModel
from diffusers.schedulers import DPMSolverMultistepScheduler
from transformers import Gemma2Config, Gemma2Model, GemmaTokenizerFast

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
MERGES = [("d", "o"), ("do", "g"), ("c", "a"), ("ca", "t")]


def gemma_tokenizer() -> GemmaTokenizerFast:
    """Pairs of printable characters, with a byte for every other."""
    characters = ["▁", "\n", *map(chr, range(33, 127))]
    words = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *characters, *("".join(pair) for pair in MERGES)]
    vocabulary = {word: number for number, word in enumerate(words)}
    return GemmaTokenizerFast(vocab=vocabulary, merges=MERGES, add_bos_token=True)


def gemma_text_encoder(width: int, tokenizer: GemmaTokenizerFast) -> Gemma2Model:
    return Gemma2Model(
        Gemma2Config(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=width // 2,
            sliding_window=64,
            max_position_embeddings=2048,
        )
    )


def deep_compression_autoencoder() -> AutoencoderDC:
    """Three blocks make an image four times as wide as its latents; the last attends, as in Sana's."""
    return AutoencoderDC(
        latent_channels=8,
        attention_head_dim=8,
        encoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8, 16),
        decoder_block_out_channels=(8, 8, 16),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), (5,)),
        decoder_qkv_multiscales=((), (), (5,)),
        scaling_factor=0.41407,
    )


def sana_pipeline(timestep_scale: float = 1.0, learned_sigma: bool = False) -> SanaPipeline:
    """Two blocks, and the shift of 3 of Sana's schedule."""
    torch.manual_seed(0)
    transformer = SanaTransformer2DModel(
        in_channels=8,
        out_channels=16 if learned_sigma else 8,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=16,
        cross_attention_dim=32,
        caption_channels=24,
        sample_size=8,
        timestep_scale=timestep_scale,
    )
    tokenizer = gemma_tokenizer()
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, algorithm_type="dpmsolver++"
    )
    encoder = gemma_text_encoder(24, tokenizer)
    return SanaPipeline(tokenizer, encoder, deep_compression_autoencoder(), transformer, scheduler)


def save_sana(folder: Path, timestep_scale: float = 1.0, learned_sigma: bool = False) -> Path:
    """A pipeline folder as ``save_pretrained`` writes it."""
    sana_pipeline(timestep_scale, learned_sigma).save_pretrained(folder)
    return folder
