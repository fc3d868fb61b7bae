"""A method on the embedded backbone and task, by its class or its name, and a batch to try it on."""

from contextlib import nullcontext
from typing import Any

import torch

from grasp_bench import seeds
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.contracts.method import Batch, Condition, Method, MethodSettings
from grasp_bench.run.plan import Plan, plan
from grasp_bench.run.resolve import make_task

from .quick import QUICK

BATCH = 6


def attach(kind: type[Method[Any]], **settings: Any) -> tuple[TinySD3, Any]:
    """The backbone, and the method with its initial weights on it."""
    _, task = make_task("digits-lt", [], None)
    backbone, method = TinySD3.load(), kind(kind.Config(**QUICK.get(kind.__name__.lower(), {}) | settings))
    method.attach(backbone, task, seeds.generator("init", kind.__name__))
    return backbone, method


def size(method: Method[MethodSettings]) -> int:
    """Trainable parameters."""
    return sum(parameter.numel() for parameter in method.parameters().values())


def attached(name: str, *settings: str) -> tuple[TinySD3, Method[MethodSettings], Plan]:
    found = plan(method=name, task="digits-lt", method_settings=settings)
    backbone = TinySD3.load()
    found.method.attach(backbone, found.task, seeds.generator("init", name))
    return backbone, found.method, found


def sample(backbone: TinySD3) -> Batch:
    generator = torch.Generator().manual_seed(3)
    labels = torch.tensor([0, 3, 9, 9, 5, 1])
    prompts = backbone.encode_prompts(["a handwritten digit seven", "", "a cat", "nine", "five", "one"])
    timesteps = torch.rand(BATCH, generator=generator)
    dropped = torch.tensor([False, True, False, False, True, False])
    latents, noise = torch.randn(2, BATCH, 1, 8, 8, generator=generator)
    return Batch(
        ids=[str(i) for i in range(BATCH)],
        latents=latents,
        noise=noise,
        noisy=backbone.objective.add_noise(latents, noise, timesteps),
        target=backbone.objective.target(latents, noise, timesteps),
        condition=Condition(labels, dropped, prompts, timesteps),
        generator=generator,
        digest=b"",
    )


def forward(backbone: TinySD3, method: Method[MethodSettings] | None) -> torch.Tensor:
    batch = sample(backbone)
    with nullcontext() if method is None else method.condition(batch.condition):
        return backbone.predict(batch.noisy, batch.condition.timesteps, batch.condition.prompts)


def train(backbone: TinySD3, method: Method[MethodSettings], steps: int = 2) -> list[torch.Tensor]:
    """A few steps; the gradients of the first one."""
    parameters = method.parameters()
    optimizer = torch.optim.AdamW(parameters.values(), 1e-2)
    gradients: list[torch.Tensor] = []
    for _ in range(steps):
        batch, prediction = sample(backbone), forward(backbone, method)
        loss, auxiliary = method.losses(batch, prediction).mean(), method.auxiliary_loss(batch, prediction)
        (loss if auxiliary is None else loss + auxiliary).backward()
        optimizer.step()
        gradients = gradients or [p.grad.clone() for p in parameters.values() if p.grad is not None]
        optimizer.zero_grad()
    return gradients
