"""A training step of a method on a transformer of any size with random weights, as the harness makes it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers import SD3Transformer2DModel

from grasp_bench import seeds
from grasp_bench.backbones.sd3 import MMDiT
from grasp_bench.contracts.backbone import Backbone, PromptEmbeddings
from grasp_bench.contracts.method import Batch, Condition, Method, MethodSettings
from grasp_bench.contracts.objective import FlowMatching
from grasp_bench.run.plan import plan
from grasp_bench.run.training.optimizer import make_optimizer

Predict = Callable[[Backbone, Method[MethodSettings], Batch], torch.Tensor]

HEAD_WIDTH = 64  # as in SD3
CHANNELS = 16  # of SD3's latents
PATCH = 2
PROMPT_WIDTH = 64


@dataclass(frozen=True)
class Sizes:
    """Of the transformer and its batch."""

    width: int = 512
    blocks: int = 4
    latent_side: int = 16
    prompt_tokens: int = 16
    batch: int = 64
    rank: int = 16
    repeats: int = 7

    @property
    def text(self) -> str:
        """For readers."""
        return (
            f"SD3's transformer with random weights, {self.blocks} blocks of width {self.width}, batch {self.batch}, "
            f"{(self.latent_side // PATCH) ** 2} image tokens and {self.prompt_tokens} of the prompt, float32"
        )


class RandomSD3(MMDiT):
    """SD3's transformer with random weights, frozen; it neither encodes nor decodes."""

    sampling_dtype: ClassVar[str] = "float32"

    def __init__(self, sizes: Sizes) -> None:
        self.latent_shape = (CHANNELS, sizes.latent_side, sizes.latent_side)
        self.objective = FlowMatching()
        with seeds.global_seed(seeds.generator("init", "random-sd3")):
            self.transformer = SD3Transformer2DModel(
                sample_size=sizes.latent_side,
                patch_size=PATCH,
                in_channels=CHANNELS,
                out_channels=CHANNELS,
                num_layers=sizes.blocks,
                attention_head_dim=HEAD_WIDTH,
                num_attention_heads=sizes.width // HEAD_WIDTH,
                joint_attention_dim=PROMPT_WIDTH,
                pooled_projection_dim=PROMPT_WIDTH,
                caption_projection_dim=sizes.width,
                pos_embed_max_size=sizes.latent_side // PATCH,
            )
        self.transformer.requires_grad_(False).train()


def random_batch(backbone: RandomSD3, sizes: Sizes, classes: int, device: torch.device) -> Batch:
    """Noise, with as many samples of every class as of any other, in random order."""
    generator = seeds.generator("data", "random-sd3")
    labels = (torch.arange(sizes.batch) % classes)[torch.randperm(sizes.batch, generator=generator)]
    latents, noise = torch.randn(2, sizes.batch, *backbone.latent_shape, generator=generator)
    timesteps = backbone.objective.timesteps(sizes.batch, generator)
    prompts = PromptEmbeddings(
        torch.randn(sizes.batch, sizes.prompt_tokens, PROMPT_WIDTH, generator=generator),
        torch.randn(sizes.batch, PROMPT_WIDTH, generator=generator),
    )
    latents, noise, timesteps = (each.to(device) for each in (latents, noise, timesteps))
    dropped = torch.zeros(sizes.batch, dtype=torch.bool, device=device)
    return Batch(
        ids=[str(number) for number in range(sizes.batch)],
        latents=latents,
        noise=noise,
        noisy=backbone.objective.add_noise(latents, noise, timesteps),
        target=backbone.objective.target(latents, noise, timesteps),
        condition=Condition(labels.to(device), dropped, prompts.to(latents), timesteps),
        generator=generator,
        digest=b"",
    )


def predict(backbone: Backbone, method: Method[MethodSettings], batch: Batch) -> torch.Tensor:
    """One forward pass, (B, C, H, W)."""
    with method.condition(batch.condition):
        return backbone.predict(batch.noisy, batch.condition.timesteps, batch.condition.prompts)


class Step:
    """Forward pass, backward pass, clipping of the gradient and AdamW, with what the method trains."""

    def __init__(
        self,
        method: Method[Any],
        sizes: Sizes,
        classes: int,
        device: torch.device,
        predict: Predict = predict,
    ) -> None:
        self.method, self.device, self.run = method, device, predict
        self.backbone = RandomSD3(sizes)
        chosen = plan(method="vanilla-ft", task="digits-lt")
        method.attach(self.backbone, chosen.task, seeds.generator("init", "step"))
        self.backbone.to(device)
        self.batch = random_batch(self.backbone, sizes, classes, device)
        self.parameters = list(method.parameters().values())
        self.budget = chosen.spec.budget
        self.optimizer = make_optimizer(self.budget, self.parameters, method.config)
        self.gradient_seconds: list[float] = []
        """Of every step so far, how long it took until the backward pass had ended."""

    @property
    def trainable(self) -> int:
        """Number of parameters that are trained."""
        return sum(parameter.numel() for parameter in self.parameters)

    def predict(self) -> torch.Tensor:
        """What the transformer predicts for the batch."""
        return self.run(self.backbone, self.method, self.batch)

    def __call__(self) -> None:
        start = time.perf_counter()
        self.optimizer.zero_grad()
        loss = self.method.losses(self.batch, self.predict()).mean()
        loss.backward()
        self._wait()
        self.gradient_seconds.append(time.perf_counter() - start)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.budget.clip_norm)
        if not torch.isfinite(loss + norm):
            raise RuntimeError(f"the loss is {loss.item()}, its gradient's norm {norm.item()}")
        self.optimizer.step()
        self._wait()

    def _wait(self) -> None:
        """A GPU works while Python goes on."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
