"""Pretrain the embedded backbone on rendered glyphs: ``python -m grasp_bench.backbones.pretrain_glyphs``.

Deterministic on one machine for a given number of threads. Writes the weights and, beside them, a card with their
sha256, the command and the settings.
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

import torch

from grasp_bench import seeds
from grasp_bench.backbones.glyphs import glyph_images
from grasp_bench.backbones.tiny_sd3 import WEIGHTS, TinySD3, build_transformer
from grasp_bench.io import file_digest, write_json, write_tensors

LEARNING_RATE = 2e-3
PROMPT_DROPOUT = 0.1
EACH = 400  # renderings of every glyph
WARMUP = 100  # steps


def pretrain(steps: int, batch_size: int, out: Path, each: int = EACH) -> None:
    """Train from scratch with AdamW under warm-up and cosine decay, and write the weights to ``out``.

    ``each`` is the number of renderings of every glyph.
    """
    with seeds.global_seed(seeds.generator("init", "tiny-sd3")):
        backbone = TinySD3(build_transformer())
    images, prompts = glyph_images(each, backbone.image_shape[-1])
    latents = backbone.encode_images(torch.from_numpy(images))
    vocabulary = sorted(set(prompts))
    embeddings = backbone.encode_prompts(vocabulary)
    captions = torch.tensor([vocabulary.index(prompt) for prompt in prompts])
    null = backbone.encode_prompts([""] * batch_size)

    optimizer = torch.optim.AdamW(backbone.transformer.parameters(), LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 1 / WARMUP, total_iters=WARMUP),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps - WARMUP), LEARNING_RATE / 100),
        ],
        milestones=[WARMUP],
    )
    started = time.monotonic()
    for step in range(steps):
        generator = seeds.generator("pretrain", step)
        chosen = torch.randint(len(latents), (batch_size,), generator=generator)
        clean = latents[chosen]
        noise = torch.randn(clean.shape, generator=generator)
        timesteps = backbone.objective.timesteps(batch_size, generator)
        keep = torch.rand(batch_size, generator=generator) >= PROMPT_DROPOUT
        condition = embeddings[captions[chosen]].where(keep, null)
        prediction = backbone.predict(backbone.objective.add_noise(clean, noise, timesteps), timesteps, condition)
        loss = (prediction - backbone.objective.target(clean, noise, timesteps)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(backbone.transformer.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 100 == 99 or step == steps - 1:
            print(f"step {step + 1}/{steps}  loss {loss.item():.4f}  {time.monotonic() - started:.0f} s", flush=True)

    write_tensors(out, backbone.transformer.state_dict())
    write_json(
        out.with_suffix(".json"),
        {
            "sha256": file_digest(out),
            "command": f"python -m grasp_bench.backbones.pretrain_glyphs --steps {steps} --batch-size {batch_size}",
            "steps": steps,
            "batch_size": batch_size,
            "learning_rate": LEARNING_RATE,
            "parameters": sum(parameter.numel() for parameter in backbone.transformer.parameters()),
            "final_loss": round(loss.item(), 4),
            "seconds": round(time.monotonic() - started),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "machine": platform.machine(),
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="safetensors file; the card goes beside it")
    arguments = parser.parse_args()
    pretrain(arguments.steps, arguments.batch_size, arguments.out)


if __name__ == "__main__":
    main()
