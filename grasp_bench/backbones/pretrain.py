"""Pretrain a member of the tiny family: ``python -m grasp_bench.backbones.pretrain tiny-sd3``, or ``tiny-sd3-32``.

Deterministic on one machine for a given number of threads.
"""

from __future__ import annotations

import argparse
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from grasp_bench import seeds
from grasp_bench.backbones.glyphs import glyph_images
from grasp_bench.backbones.scenes import scene_images
from grasp_bench.backbones.tiny_sd3 import TinySD3, TinySD3At32, TinySD3Family
from grasp_bench.io import file_digest, write_json, write_tensors

PROMPT_DROPOUT = 0.1
WARMUP = 100  # steps
LEARNING_RATE = 2e-3
GLYPHS = 400  # renderings of each
SCENES = 60_000  # 184 MB in memory


@dataclass(frozen=True)
class Recipe:
    """How a backbone is pretrained, and how its weights are stored."""

    command: str
    """What reruns the pretraining; for the card."""
    steps: int
    batch_size: int
    learning_rate: float
    """At the end of the warm-up; a cosine takes it to a hundredth of that."""
    dtype: torch.dtype = torch.float32
    """Precision of the stored weights; training and loading use float32."""


def pretrain(backbone: TinySD3Family, images: np.ndarray, prompts: list[str], recipe: Recipe, out: Path) -> None:
    """Train with AdamW on uint8 images (N, C, H, W), one prompt each; write the weights to ``out``, the card beside it.

    The card says the weights' sha256, the command and the settings.
    """
    null = backbone.encode_prompts([""] * recipe.batch_size)
    optimizer = torch.optim.AdamW(backbone.transformer.parameters(), recipe.learning_rate, weight_decay=0.01)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / WARMUP, total_iters=WARMUP)
    rest, least = max(1, recipe.steps - WARMUP), recipe.learning_rate / 100
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, rest, least)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, cosine], milestones=[WARMUP])
    started = time.monotonic()
    for step in range(recipe.steps):
        generator = seeds.generator("pretrain", step)
        chosen = torch.randint(len(images), (recipe.batch_size,), generator=generator)
        clean = backbone.encode_images(torch.from_numpy(images[chosen.numpy()]))
        noise = torch.randn(clean.shape, generator=generator)
        timesteps = backbone.objective.timesteps(recipe.batch_size, generator)
        keep = torch.rand(recipe.batch_size, generator=generator) >= PROMPT_DROPOUT
        condition = backbone.encode_prompts([prompts[index] for index in chosen.tolist()]).where(keep, null)
        prediction = backbone.predict(backbone.objective.add_noise(clean, noise, timesteps), timesteps, condition)
        loss = (prediction - backbone.objective.target(clean, noise, timesteps)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(backbone.transformer.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 100 == 99 or step == recipe.steps - 1:
            seconds = time.monotonic() - started
            print(f"step {step + 1}/{recipe.steps}  loss {loss.item():.4f}  {seconds:.0f} s", flush=True)

    write_tensors(out, {name: value.to(recipe.dtype) for name, value in backbone.transformer.state_dict().items()})
    write_json(
        out.with_suffix(".json"),
        {
            "sha256": file_digest(out),
            "command": recipe.command,
            "images": len(images),
            "steps": recipe.steps,
            "batch_size": recipe.batch_size,
            "learning_rate": recipe.learning_rate,
            "parameters": sum(parameter.numel() for parameter in backbone.transformer.parameters()),
            "dtype": str(recipe.dtype).removeprefix("torch."),
            "final_loss": round(loss.item(), 4),
            "seconds": round(time.monotonic() - started),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "machine": platform.machine(),
        },
    )


def main() -> None:
    """Pretrain from the command line; write the weights, and their card beside them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone", choices=[TinySD3.name, TinySD3At32.name])
    parser.add_argument("--steps", type=int, help="by default those of the shipped weights, as is the batch size")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--out", type=Path, help="safetensors file, the shipped one by default; the card is beside it")
    given = parser.parse_args()
    if given.backbone == TinySD3.name:
        member: type[TinySD3Family] = TinySD3
        defaults, dtype = (4000, 128), torch.float32
        images, prompts = glyph_images(GLYPHS, TinySD3.image_shape[-1])
    else:
        member = TinySD3At32
        defaults, dtype = (5000, 64), torch.float16
        images, prompts = scene_images(SCENES, TinySD3At32.image_shape[-1])
    steps, batch_size = given.steps or defaults[0], given.batch_size or defaults[1]
    command = f"python -m grasp_bench.backbones.pretrain {member.name} --steps {steps} --batch-size {batch_size}"
    recipe = Recipe(command, steps, batch_size, LEARNING_RATE, dtype)
    pretrain(member.initialise(), images, prompts, recipe, given.out or member.weights())


if __name__ == "__main__":
    main()
