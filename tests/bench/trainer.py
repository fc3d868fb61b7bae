"""A training step of a method on a large transformer, as the harness makes it in half precision."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from grasp_bench import seeds
from grasp_bench.adapters.inject import input_width
from grasp_bench.contracts.backbone import Backbone
from grasp_bench.contracts.method import Batch, Condition
from grasp_bench.contracts.spec import Optimizer, Precision
from grasp_bench.precision import autocast, store_frozen
from grasp_bench.run.plan import plan
from grasp_bench.run.training.optimizer import make_optimizer

from .true_sizes import Model

RANK = 64  # of each cluster's adapters
PRECISION: Precision = "bfloat16"
OPTIMIZER: Optimizer = "adamw-fused"


class Trainer:
    """Steps of a method as the harness makes them: weights that are frozen in bfloat16, trained ones in float32."""

    def __init__(self, model: Model, side: int, name: str, device: torch.device) -> None:
        self.device, self.backbone = device, model.make(side, device)
        self.total = sum(parameter.numel() for parameter in self.backbone.transformer.parameters())
        chosen = plan(method=name, task="digits-lt", method_settings=settings(name, self.backbone))
        self.method, self.clip_norm = chosen.method, chosen.spec.budget.clip_norm
        groups = chosen.task.group_indices()
        self.classes = torch.from_numpy(np.unique(groups, return_index=True)[1])  # one of every cluster
        self.method.attach(self.backbone, chosen.task, seeds.generator("init", "gpu"))
        vars(self.method).pop("base", None)  # full fine-tuning's copy for detach() alone
        store_frozen(self.backbone.transformer, PRECISION)
        self.backbone.transformer.to(device)
        self.parameters = self.method.parameters()
        budget = chosen.spec.budget.model_copy(update={"optimizer": OPTIMIZER})
        self.optimizer = make_optimizer(budget, self.parameters.values(), self.method.config)

    @property
    def trainable(self) -> int:
        """Number of parameters that are trained."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    def batch(self, size: int) -> Batch:
        """Random samples whose clusters alternate."""
        objective, shape = self.backbone.objective, (size, *self.backbone.latent_shape)
        latents, noise = (torch.randn(shape, device=self.device) for _ in range(2))
        timesteps = objective.timesteps(size, seeds.generator("timesteps", "gpu", size)).to(self.device)
        return Batch(
            ids=[str(number) for number in range(size)],
            latents=latents,
            noise=noise,
            noisy=objective.add_noise(latents, noise, timesteps),
            target=objective.target(latents, noise, timesteps),
            condition=Condition(
                labels=self.classes[torch.arange(size) % len(self.classes)].to(self.device),
                dropped=torch.zeros(size, dtype=torch.bool, device=self.device),
                prompts=self.backbone.random_prompts(size, self.device),
                timesteps=timesteps,
            ),
            generator=seeds.generator("method", "gpu", size),
            digest=b"",
        )

    def checkpoint(self, enabled: bool) -> None:
        """Recompute activations in the backward pass, or keep them."""
        if enabled:
            self.backbone.enable_gradient_checkpointing()
        else:
            self.backbone.transformer.disable_gradient_checkpointing()

    def backward(self, batch: Batch) -> None:
        """Leave the gradient of a batch in the parameters."""
        self.optimizer.zero_grad()
        with self.method.condition(batch.condition), autocast(PRECISION, self.device):
            prediction = self.backbone.predict(batch.noisy, batch.condition.timesteps, batch.condition.prompts)
        self.method.losses(batch, prediction.to(batch.target)).mean().backward()

    def step(self, batch: Batch) -> None:
        """Forward and backward pass, clipping and AdamW."""
        self.backward(batch)
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.clip_norm)
        self.optimizer.step()
        if self.device.type == "cuda":  # works while Python goes on
            torch.cuda.synchronize(self.device)

    def flops_per_image(self) -> int:
        """Floating-point operations of the matrix products of a forward and a backward pass, none of them repeated."""
        self.checkpoint(False)
        with FlopCounterMode(display=False) as counter:
            self.backward(self.batch(1))
        return counter.get_total_flops()


def settings(method: str, backbone: Backbone) -> list[str]:
    """GRASP's rank, and the rank that gives LoRA about as many parameters."""
    if method == "vanilla-ft":
        return []
    if method == "grasp":
        return [f"rank={RANK}", "null_route=same"]  # no prompt of a batch is dropped
    clusters = len(plan(method="grasp", task="digits-lt").task.groups)
    adapters = clusters * 2 * RANK * sum(input_width(layer) for layer in backbone.feed_forwards().values())
    projections = (
        module for name, module in backbone.transformer.named_modules() if name.endswith(backbone.attention_projections)
    )
    rank = max(1, round(adapters / sum(each.in_features + each.out_features for each in projections)))
    return [f"rank={rank}", f"alpha={rank}"]
