"""DiT in small: a pipeline of the real classes, saved as a real folder, with nothing to download."""

from __future__ import annotations

import json
from pathlib import Path

TINY_DIT = "tiny-dit"
"""Its name among the backbones that plugins are tried on."""
LABELS = {"2": "great white shark, white shark", "134": "crane", "281": "tabby, tabby cat", "517": "crane"}
"""Rows and names as in ImageNet; "crane" is a bird and a machine."""
CLASSES = 1000


def save_dit(folder: Path) -> Path:
    """Three blocks, a thousand classes, and as many output channels for the variance as for the mean."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=4,
            out_channels=8,
            num_layers=3,
            sample_size=8,
            num_embeds_ada_norm=CLASSES,
        )
        autoencoder = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(8, 8, 8),
            latent_channels=4,
            norm_num_groups=4,
        )
    DiTPipeline(transformer, autoencoder, DDIMScheduler(clip_sample=False)).save_pretrained(folder)
    index = folder / "model_index.json"  # the published one holds the labels, which `save_pretrained` leaves out
    index.write_text(json.dumps(json.loads(index.read_text()) | {"id2label": LABELS}))
    return folder
