"""Tiny pipelines of the real classes, saved as real folders: what users load, at a size that tests can afford."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel, StableDiffusion3Pipeline
from diffusers.schedulers import FlowMatchEulerDiscreteScheduler
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

START, END = "<|startoftext|>", "<|endoftext|>"
MERGES = ["d o", "do g</w>", "c a", "ca t</w>", "t h", "th e</w>"]
PIECES = ["▁", *(f"▁{word}" for word in ("a", "dog", "cat", "photo", "of", "the")), *"abcdefghijklmnopqrstuvwxyz"]


def clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """Byte-level pairs over every byte and a few merges, in the vocab.json and merges.txt of OpenAI's release."""
    folder.mkdir(parents=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *(f"{letter}</w>" for letter in alphabet), *("".join(merge.split()) for merge in MERGES)]
    vocabulary = {word: number for number, word in enumerate([*words, START, END])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES]))
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    return CLIPTokenizer.from_pretrained(folder)


def t5_tokenizer(folder: Path) -> T5TokenizerFast:
    """A Unigram model of a few words and letters."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((piece, -float(len(PIECES))) for piece in PIECES)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **special).save_pretrained(folder)
    return T5TokenizerFast.from_pretrained(folder, extra_ids=0)


def clip_text_encoder(width: int, tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            projection_dim=width,
            intermediate_size=2 * width,
            num_hidden_layers=3,
            num_attention_heads=2,
            max_position_embeddings=77,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def t5_text_encoder(width: int, tokenizer: T5TokenizerFast) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=width,
            d_kv=16,
            d_ff=2 * width,
            num_layers=2,
            num_heads=2,
            is_gated_act=True,
        )
    )


def autoencoder(channels: tuple[int, ...] = (8, 8, 16), latent_channels: int = 16) -> AutoencoderKL:
    """With the shift and scale of SD3's; three blocks make an image four times as wide as its latents."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        latent_channels=latent_channels,
        norm_num_groups=4,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def sd3_pipeline(scratch: Path, t5: bool = True) -> StableDiffusion3Pipeline:
    """SD3.5-medium in small: three blocks, the first with a second attention, and the shift of 3 of its schedule."""
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=64,
        caption_projection_dim=32,
        pooled_projection_dim=16 + 24,
        pos_embed_max_size=12,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    clip, other_clip = clip_tokenizer(scratch / "clip-l"), clip_tokenizer(scratch / "clip-g")
    t5_words = t5_tokenizer(scratch / "t5") if t5 else None
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(),
        text_encoder=clip_text_encoder(16, clip),
        tokenizer=clip,
        text_encoder_2=clip_text_encoder(24, other_clip),
        tokenizer_2=other_clip,
        text_encoder_3=t5_text_encoder(64, t5_words) if t5_words else None,
        tokenizer_3=t5_words,
    )


def save_sd3(folder: Path, scratch: Path, t5: bool = True, **options: object) -> Path:
    """A pipeline folder as ``save_pretrained`` writes it, ``options`` being its own."""
    sd3_pipeline(scratch, t5).save_pretrained(folder, **options)
    return folder
