"""Pretrain ``tiny-sd3-32`` on drawn scenes: ``python -m grasp_bench.backbones.pretrain_scenes``."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from grasp_bench.backbones.pretrain import Recipe, pretrain
from grasp_bench.backbones.scenes import scene_images
from grasp_bench.backbones.tiny_sd3 import TinySD3At32

LEARNING_RATE = 2e-3
SCENES = 60_000  # 184 MB in memory


def main() -> None:
    """Pretrain from the command line; write the weights, and their card beside them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--out", type=Path, default=TinySD3At32.weights(), help="safetensors; the card goes beside it")
    arguments = parser.parse_args()
    steps, batch_size = arguments.steps, arguments.batch_size
    command = f"python -m grasp_bench.backbones.pretrain_scenes --steps {steps} --batch-size {batch_size}"
    recipe = Recipe(command, steps, batch_size, LEARNING_RATE, dtype=torch.float16)
    images, prompts = scene_images(SCENES, TinySD3At32.image_shape[-1])
    pretrain(TinySD3At32.initialise(), images, prompts, recipe, arguments.out)


if __name__ == "__main__":
    main()
