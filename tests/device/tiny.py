"""Every family of saved pipelines in small: folders with the JSON files of a pipeline, and no weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from grasp_bench.estimate.configured import SHIPPED

SIDE = 16  # of latents
AUTOENCODER: dict[str, Any] = {"block_out_channels": [8, 8, 16, 16], "norm_num_groups": 4}
PIPELINES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "dit": (
        "facebook--DiT-XL-2-256",
        {"num_layers": 3, "num_attention_heads": 2, "attention_head_dim": 16, "sample_size": SIDE},
        AUTOENCODER,
    ),
    "flux": (
        "black-forest-labs--FLUX.1-dev",
        {
            "in_channels": 16,
            "num_layers": 2,
            "num_single_layers": 1,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 24,
            "pooled_projection_dim": 16,
            "axes_dims_rope": [4, 6, 6],
        },
        AUTOENCODER | {"latent_channels": 4, "sample_size": 8 * SIDE},
    ),
    "pixart": (
        "PixArt-alpha--PixArt-Sigma-XL-2-1024-MS",
        {
            "num_layers": 2,
            "num_attention_heads": 3,
            "attention_head_dim": 16,
            "cross_attention_dim": 48,
            "caption_channels": 32,
            "sample_size": SIDE,
        },
        AUTOENCODER,
    ),
    "sana": (
        "Efficient-Large-Model--Sana_600M_512px_diffusers",
        {
            "num_layers": 2,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "num_cross_attention_heads": 2,
            "cross_attention_head_dim": 16,
            "cross_attention_dim": 32,
            "caption_channels": 24,
            "sample_size": SIDE,
        },
        {
            "attention_head_dim": 8,
            "encoder_block_out_channels": [8, 8, 8, 8, 16, 32],
            "decoder_block_out_channels": [8, 8, 8, 8, 16, 32],
            "encoder_layers_per_block": [1] * 6,
            "decoder_layers_per_block": [1] * 6,
        },
    ),
    "sd3": (
        "stabilityai--stable-diffusion-3.5-medium",
        {
            "num_layers": 3,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "joint_attention_dim": 64,
            "caption_projection_dim": 32,
            "pooled_projection_dim": 40,
            "pos_embed_max_size": 12,
            "dual_attention_layers": [0],
            "sample_size": SIDE,
        },
        AUTOENCODER,
    ),
}
"""Family → the published pipeline, and what is smaller in its transformer and autoencoder."""


def save(family: str, folder: Path) -> str:
    """Write the JSON files of a tiny pipeline, and return what the command line names it by."""
    name, transformer, vae = PIPELINES[family]
    content = json.loads((SHIPPED / f"{name}.json").read_text())
    scheduler = content["scheduler"]
    for path, written in {
        "model_index.json": {
            "_class_name": content["pipeline"],
            "scheduler": ["diffusers", scheduler["_class_name"]],
        },
        "scheduler/scheduler_config.json": scheduler,
        "transformer/config.json": content["transformer"] | transformer,
        "vae/config.json": content["vae"] | vae,
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(json.dumps(written))
    return f"{family}:{folder}"
