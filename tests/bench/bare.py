"""A training loop in plain PyTorch, as one is written for a single experiment: what the harness is compared with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from grasp_bench.contracts.backbone import PromptEmbeddings
from grasp_bench.contracts.method import Condition
from grasp_bench.contracts.task import Split
from grasp_bench.run.plan import Plan


@dataclass(frozen=True)
class Draw:
    """What a step is made of; every field has length B."""

    indices: torch.Tensor
    """Of the images."""
    noise: torch.Tensor
    timesteps: torch.Tensor
    dropped: torch.Tensor


class BareLoop:
    """Fine-tuning on a split that is held in memory: no checkpoint, log, hash, check, or stream of random numbers.

    It knows the backbone to be one of diffusers' ``SD3Transformer2DModel`` on pixels, under flow matching.
    """

    def __init__(self, chosen: Plan, split: Split) -> None:
        self.budget, self.method = chosen.spec.budget, chosen.method
        backbone = chosen.backbone.load()
        self.method.attach(backbone, chosen.task, torch.Generator().manual_seed(0))
        self.transformer = backbone.transformer.train()
        self.images = torch.from_numpy(split.all_images())  # uint8 (n, C, H, W)
        self.labels = torch.from_numpy(split.labels)
        prompts = ["", *sorted(set(split.prompts))]
        embeddings = backbone.encode_prompts(prompts)
        self.tokens, self.pooled = embeddings.tokens, embeddings.pooled
        self.prompts = torch.tensor([prompts.index(prompt) for prompt in split.prompts])  # (n,), rows of the above
        self.parameters = [each for each in self.transformer.parameters() if each.requires_grad]
        settings, warmup = self.method.config, max(1, self.budget.warmup_steps)
        self.optimizer = torch.optim.AdamW(self.parameters, settings.learning_rate, weight_decay=settings.weight_decay)
        self.schedule = LambdaLR(self.optimizer, lambda step: min(1.0, (step + 1) / warmup))
        self.left = torch.empty(0, dtype=torch.int64)

    def __call__(self) -> None:
        """One step on the next images of a shuffled epoch."""
        size = self.budget.batch_size
        while len(self.left) < size:
            self.left = torch.cat([self.left, torch.randperm(len(self.images))])
        indices, self.left = self.left.split([size, len(self.left) - size])
        noise = torch.randn(size, *self.images.shape[1:])
        timesteps = torch.randn(size).sigmoid()
        self.step(Draw(indices, noise, timesteps, torch.rand(size) < self.budget.prompt_dropout))

    def step(self, draw: Draw) -> None:
        """Forward and backward pass, clipping, AdamW and its schedule."""
        latents = self.images[draw.indices].float() / 127.5 - 1
        t = draw.timesteps.reshape(-1, 1, 1, 1)
        noisy = (1 - t) * latents + t * draw.noise
        rows = self.prompts[draw.indices].masked_fill(draw.dropped, 0)
        tokens, pooled = self.tokens[rows], self.pooled[rows]
        condition = Condition(self.labels[draw.indices], draw.dropped, PromptEmbeddings(tokens, pooled), draw.timesteps)
        with self.method.condition(condition):
            velocity = self.transformer(
                noisy,
                encoder_hidden_states=tokens,
                pooled_projections=pooled,
                timestep=draw.timesteps * 1000,
                return_dict=False,
            )[0]
        losses = functional.mse_loss(velocity, draw.noise - latents, reduction="none").flatten(1).mean(1)
        self.optimizer.zero_grad()
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.budget.clip_norm)
        self.optimizer.step()
        self.schedule.step()
