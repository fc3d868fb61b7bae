"""A picture of what the embedded backbone draws before any fine-tuning.

``python -m grasp_bench.harness.base_samples --out results/digits-lt/base-model.png``
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from grasp_bench import seeds
from grasp_bench.backbones.glyphs import captions
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.guidance.cfg import CfgSettings, ClassifierFreeGuidance
from grasp_bench.harness.generate import Sampler
from grasp_bench.method import Method, MethodSettings
from grasp_bench.report.pictures import write_grid

GLYPHS = "ABEGKMRSXZaeghkm0123456789"
EACH = 8
STEPS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="PNG file")
    out: Path = parser.parse_args().out

    backbone = TinySD3.load()
    torch.nn.Module.to(backbone.transformer, getattr(torch, backbone.sampling_dtype))
    untrained = Method(MethodSettings())
    sampler = Sampler(backbone, untrained, ClassifierFreeGuidance(CfgSettings()), torch.device("cpu"))
    rows = []
    for glyph in GLYPHS:
        caption = captions()[glyph]
        noise = torch.randn(EACH, *backbone.image_shape, generator=seeds.generator("image", "glyphs", glyph))
        images = sampler(noise, [caption] * EACH, torch.zeros(EACH, dtype=torch.long), STEPS)
        rows.append((caption, images.numpy()))
    write_grid(out, rows, "tiny-sd3 before any fine-tuning")


if __name__ == "__main__":
    main()
