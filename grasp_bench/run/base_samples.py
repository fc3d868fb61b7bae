"""A picture of what an embedded backbone draws before any fine-tuning.

``python -m grasp_bench.run.base_samples tiny-sd3-32 --out results/base-models/tiny-sd3-32.png``
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from grasp_bench import plugins, seeds
from grasp_bench.backbones.glyphs import captions
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.guidances.cfg import CfgSettings, ClassifierFreeGuidance
from grasp_bench.run.pictures import write_grid
from grasp_bench.sampling import Sampler

PROMPTS = {
    "tiny-sd3": [captions()[glyph] for glyph in "ABEGKMRSXZaeghkm0123456789"],
    "tiny-sd3-32": [
        "a red letter K on a striped background",
        "a blue circle on a dotted background",
        "a large green star on a plain background",
        "a small yellow heart on a purple checked background",
        "a grey picture of a white ring on a black noisy background",
        "a grey picture of a large black digit seven on a gradient background",
        "a photo of a pickup truck",
        "a chest X-ray showing subcutaneous emphysema",
    ],
}
"""Backbone → prompts that it was pretrained on; for tiny-sd3-32 the last two are prompts that it was not."""
EACH = 8
STEPS = 20


def main() -> None:
    """Sample from the backbone that the command line names, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbone", choices=PROMPTS)
    parser.add_argument("--out", type=Path, required=True, help="PNG file")
    arguments = parser.parse_args()

    backbone = plugins.load("backbones", arguments.backbone).load()
    torch.nn.Module.to(backbone.transformer, getattr(torch, backbone.sampling_dtype))
    untrained = Method(MethodSettings())
    sampler = Sampler(backbone, untrained, ClassifierFreeGuidance(CfgSettings()), torch.device("cpu"))
    rows = []
    for prompt in PROMPTS[arguments.backbone]:
        noise = torch.randn(EACH, *backbone.image_shape, generator=seeds.generator("image", "base-samples", prompt))
        images = sampler(noise, [prompt] * EACH, torch.zeros(EACH, dtype=torch.long), STEPS)
        rows.append((prompt, images.numpy()))
    write_grid(arguments.out, rows, f"{arguments.backbone} before any fine-tuning")


if __name__ == "__main__":
    main()
