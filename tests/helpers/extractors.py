"""Files of extractors' weights in their real layout, with random numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


def make_dino(folder: Path) -> Path:
    """Write a folder as of RAD-DINO, but tiny."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    transformers.Dinov2Model(config).save_pretrained(folder)
    processor = {
        "crop_size": {"height": 28, "width": 28},
        "do_center_crop": True,
        "do_normalize": True,
        "image_mean": [0.5307] * 3,
        "image_std": [0.2583] * 3,
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"shortest_edge": 28},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def make_inception(path: Path) -> Path:
    """Write a file as torch-fidelity's, with other numbers."""
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import (  # type: ignore[import-untyped]
        FeatureExtractorInceptionV3,
    )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Module, "load_state_dict", lambda *args: None)
        patch.setattr(torch, "load", lambda *args, **options: {})
        torch.manual_seed(0)
        network = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path="x")
    torch.save(network.state_dict(), path)
    return path
