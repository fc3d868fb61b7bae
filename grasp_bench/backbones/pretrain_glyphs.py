"""Pretrain ``tiny-sd3`` on rendered glyphs: ``python -m grasp_bench.backbones.pretrain_glyphs``."""

from __future__ import annotations

import argparse
from pathlib import Path

from grasp_bench.backbones.glyphs import glyph_images
from grasp_bench.backbones.pretrain import Recipe, pretrain
from grasp_bench.backbones.tiny_sd3 import TinySD3

LEARNING_RATE = 2e-3
EACH = 400  # renderings of every glyph


def main() -> None:
    """Pretrain from the command line; write the weights, and their card beside them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--out", type=Path, default=TinySD3.weights(), help="safetensors file; the card goes beside it")
    arguments = parser.parse_args()
    steps, batch_size = arguments.steps, arguments.batch_size
    command = f"python -m grasp_bench.backbones.pretrain_glyphs --steps {steps} --batch-size {batch_size}"
    images, prompts = glyph_images(EACH, TinySD3.image_shape[-1])
    pretrain(TinySD3.initialise(), images, prompts, Recipe(command, steps, batch_size, LEARNING_RATE), arguments.out)


if __name__ == "__main__":
    main()
