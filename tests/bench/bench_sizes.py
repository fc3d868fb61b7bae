"""What losses that compare samples do as latents get larger: up to SD3.5's at 512 pixels, 16×64×64.

``PYTHONPATH=tests python -m bench.bench_sizes`` writes results/perf/sizes.json and takes about two minutes on one core.
Docstrings of ``oc``, ``coral``, ``ccua`` and ``cbdm`` have its figures.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn import functional

from grasp_bench import seeds
from grasp_bench.baselines.oc import OcSettings, OrientedCalibration
from grasp_bench.contracts.backbone import PromptEmbeddings
from grasp_bench.contracts.method import Batch
from grasp_bench.contracts.objective import FlowMatching
from grasp_bench.contracts.recipe import BackboneRecipe, Timesteps
from grasp_bench.io import write_json
from grasp_bench.run.plan import plan

from .recording import RESULTS, environment_of
from .training import PROMPT_WIDTH, RandomSD3, Sizes, predict, random_batch

SHAPES = ((1, 8, 8), (3, 32, 32), (4, 32, 32), (32, 16, 16), (16, 64, 64))
BATCH, REPEATS = 64, 6
SIDES = (8, 32, 64)
LOSSES = ("cbdm", "ccua", "coral")


def of_another_image(shape: tuple[int, int, int], flattening: float, shift: float) -> float:
    """The mean probability by ``oc`` that another image of a batch explains a noisy one; latents are noise."""
    objective = FlowMatching(BackboneRecipe(timesteps=Timesteps(shift=shift)))
    method = OrientedCalibration(OcSettings(flattening=flattening))
    method.backbone = SimpleNamespace(objective=objective)  # type: ignore[assignment]
    generator, found = seeds.generator("data", "sizes"), []
    for _ in range(REPEATS):
        latents, noise = torch.randn(2, BATCH, *shape, generator=generator)
        timesteps = objective.timesteps(BATCH, generator)
        noisy = objective.add_noise(latents, noise, timesteps)
        batch: Any = SimpleNamespace(latents=latents, noisy=noisy, condition=SimpleNamespace(timesteps=timesteps))
        found.append((1 - method.posterior(batch).diagonal()).mean().item())
    return sum(found) / REPEATS


def smooth_batch(backbone: RandomSD3, sizes: Sizes) -> Batch:
    """A batch whose latents vary over eighths of the image, of unit variance, with four samples of each class."""
    batch = random_batch(backbone, sizes, 4, torch.device("cpu"))
    channels, side, _ = backbone.latent_shape
    coarse = torch.randn(sizes.batch, channels, 8, 8, generator=seeds.generator("data", "smooth"))
    latents = functional.interpolate(coarse, size=(side, side), mode="bilinear")
    latents = latents / latents.std()
    timesteps = batch.condition.timesteps
    return replace(
        batch,
        latents=latents,
        noisy=backbone.objective.add_noise(latents, batch.noise, timesteps),
        target=backbone.objective.target(latents, batch.noise, timesteps),
        embed=lambda prompts: embedded(prompts, sizes.prompt_tokens),
    )


def embedded(prompts: Any, tokens: int) -> PromptEmbeddings:
    """Noise in the place of each prompt's embedding."""
    rows = [seeds.generator("data", "prompt", each) for each in prompts]
    drawn = torch.stack([torch.randn(tokens, PROMPT_WIDTH, generator=row) for row in rows])
    return PromptEmbeddings(drawn, torch.stack([torch.randn(PROMPT_WIDTH, generator=row) for row in rows]))


def share_of_gradient(name: str, side: int) -> dict[str, float]:
    """Norms of gradients of what a loss adds and of the squared error, as a ratio; mean cosine of what it compares."""
    sizes = Sizes(width=64, blocks=2, latent_side=side, prompt_tokens=4, batch=16)
    chosen, backbone = plan(method=name, task="digits-lt"), RandomSD3(sizes)
    method: Any = chosen.method
    method.attach(backbone, chosen.task, seeds.generator("init", "sizes"))
    batch, kept = smooth_batch(backbone, sizes), []
    if tap := getattr(method, "tap", None):
        take = tap.take
        tap.take = lambda: (kept.append(take()), kept[-1])[1]
    prediction, parameters = predict(backbone, method, batch), list(method.parameters().values())
    base = (prediction - batch.target).square().flatten(1).mean(1)
    added = method.losses(batch, prediction) - base
    found = {"gradient": norm(added.mean(), parameters) / norm(base.mean(), parameters)}
    if kept:
        unit = functional.normalize(kept[-1].float(), dim=1)
        found["cosine"] = (unit @ unit.T)[~torch.eye(len(unit), dtype=torch.bool)].mean().item()
    return found


def norm(loss: torch.Tensor, parameters: list[torch.nn.Parameter]) -> float:
    """The norm of a gradient."""
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return float(sum(each.square().sum() for each in found if each is not None)) ** 0.5


def main() -> None:
    """Measure and write."""
    posterior = {
        "x".join(map(str, shape)): {
            f"flattening {flattening:g}, shift {shift:g}": of_another_image(shape, flattening, shift)
            for flattening in (0.0, 1.0)
            for shift in (1.0, 3.0)
        }
        for shape in SHAPES
    }
    gradients = {name: {f"16x{side}x{side}": share_of_gradient(name, side) for side in SIDES} for name in LOSSES}
    path = RESULTS / "sizes.json"
    write_json(
        path,
        {
            "command": "PYTHONPATH=tests python -m bench.bench_sizes",
            **environment_of([]),
            "oc": {
                "method": f"Mean probability of another image of {BATCH}, {REPEATS} batches of noise, logit-normal t.",
                "of another image": posterior,
            },
            "gradients": {
                "method": (
                    "SD3's transformer with random weights, 2 blocks of width 64, batch 16, four samples of a class, "
                    "latents that vary over eighths of the image. Norm of the gradient of what the loss adds over that "
                    "of the squared error; mean cosine between samples of the pooled tokens that are compared."
                ),
                **gradients,
            },
        },
    )
    print(path.read_text())


if __name__ == "__main__":
    main()
