"""Distillation of guidance: adapters that learn the predictions of guided trajectories."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from grasp_bench.adapters.inject import channels_first, input_width, on_tokens, unwrap, wrap
from grasp_bench.contracts.backbone import Backbone
from grasp_bench.contracts.guidance import Model, Workshop
from grasp_bench.contracts.progress import Advance
from grasp_bench.contracts.scope import in_scope, scope
from grasp_bench.errors import NonFiniteError
from grasp_bench.guidances.states import States, StoredStates
from grasp_bench.memory import Portion

WARMUP = 0.1  # share of the training steps over which the learning rate rises
ACTIVE = "distilled guidance"


class DistilledAdapter(nn.Module):
    """A feed-forward layer plus, within the scope ``ACTIVE``, a bottleneck f(x) + gelu(x D) U; ``U`` starts at zero."""

    def __init__(self, base_layer: nn.Module, rank: int, generator: torch.Generator, like: torch.Tensor) -> None:
        """Parameters have the precision and the device of ``like``."""
        super().__init__()
        width = input_width(base_layer)
        self.base_layer = base_layer
        self.channels_first = channels_first(base_layer)
        self.down = nn.Parameter((torch.randn(width, rank, generator=generator) * width**-0.5).to(like))
        self.up = nn.Parameter(torch.zeros(rank, width).to(like))

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """(B, N, D) → (B, N, D), or (B, D, H, W) → (B, D, H, W) of a convolutional layer."""
        output: torch.Tensor = self.base_layer(hidden_states, *args, **kwargs)
        if not in_scope(ACTIVE):
            return output
        return output + on_tokens(self._residual, hidden_states, self.channels_first)

    def _residual(self, hidden_states: torch.Tensor) -> torch.Tensor:
        residual: torch.Tensor = functional.gelu(hidden_states @ self.down) @ self.up
        return residual


class Adapters:
    """Adapters in every feed-forward layer of a transformer, beneath whatever a method has put there.

    Outside :meth:`active` the adapters do nothing, so that the network stays the fine-tuned one.
    """

    def __init__(self, backbone: Backbone, rank: int, generator: torch.Generator, like: torch.Tensor) -> None:
        """Parameters have the precision and the device of ``like``."""
        self.transformer, names = backbone.transformer, list(backbone.feed_forwards())
        wrap(self.transformer, names, lambda layer: DistilledAdapter(layer, rank, generator, like))
        self.names = [f"{name}.{kind}" for name in names for kind in ("down", "up")]

    def parameters(self) -> dict[str, nn.Parameter]:
        """Name → tensor of the adapters alone."""
        return {name: self.transformer.get_parameter(name) for name in self.names}

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what was learned on the same network."""
        for name, parameter in self.parameters().items():
            parameter.data.copy_(state[name])

    def remove(self) -> None:
        """Leave the transformer as it was."""
        unwrap(self.transformer, DistilledAdapter)

    def active(self) -> AbstractContextManager[None]:
        """Make the adapters take part in forward passes inside the block."""
        return scope(ACTIVE)


class Prompts:
    """The prompts of a task's classes, embedded once."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self.classes = workshop.embed([info.prompt for info in workshop.task.classes()])
        self.null = workshop.embed([""])

    def model(self, labels: torch.Tensor, like: torch.Tensor) -> Model:
        """The fine-tuned network and samples of classes (B,), for latents such as ``like``."""
        each, none = self.classes[labels.cpu()].to(like), self.null[torch.zeros_like(labels).cpu()].to(like)
        labels = labels.to(like.device)
        return Model(self.workshop.network, self.workshop.backbone.objective, labels, each, none)


def draws(count: int, steps: int, batch_size: int, generator: torch.Generator) -> torch.Tensor:
    """Numbers, of ``count`` states, of those that each training step sees: int64 (steps, batch_size)."""
    return torch.stack([torch.randint(count, (batch_size,), generator=generator) for _ in range(steps)])


def fit(
    adapters: Adapters,
    prompts: Prompts,
    states: StoredStates,
    order: torch.Tensor,
    learning_rate: float,
    portion: Portion,
    advance: Advance,
) -> None:
    """Train the adapters' conditional prediction towards the guided one: AdamW, warm-up, then a cosine to zero.

    ``order`` has the numbers of each step's states; see :func:`draws`. A step's gradient is the sum over portions of
    them. Raises :class:`NonFiniteError` when the loss is
    not finite.
    """
    parameters = list(adapters.parameters().values())
    optimizer = torch.optim.AdamW(parameters, learning_rate, weight_decay=0.0)
    for step, rows in enumerate(order):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * _rate(step, len(order))
        found = list(portion.over(rows, lambda part: _gradients(adapters, prompts, states[part], order.shape[1])))
        loss = sum(part for part, _ in found)
        if not math.isfinite(loss):
            raise NonFiniteError(f"the loss of the distilled guidance is {loss} at step {step}")
        for parameter, *gradients in zip(parameters, *(each for _, each in found), strict=True):
            parameter.grad = torch.stack(gradients).sum(0) if gradients[1:] else gradients[0]
        optimizer.step()
        advance(1)


def _gradients(
    adapters: Adapters, prompts: Prompts, states: States, batch: int
) -> tuple[float, tuple[torch.Tensor, ...]]:
    """Return what some of the ``batch`` states of a step add to its loss, and to the gradient of the adapters.

    Of the adapters alone: what the method trained keeps neither gradient nor change.
    """
    loss = errors(adapters, prompts, states).mean() * (len(states) / batch)
    return loss.item(), torch.autograd.grad(loss, list(adapters.parameters().values()))


def errors(adapters: Adapters, prompts: Prompts, states: States) -> torch.Tensor:
    """Mean squared difference of the adapted and the guided prediction of each state: (n,)."""
    states = states.to(prompts.workshop.device)
    with adapters.active():
        prediction = prompts.model(states.labels, states.latents).conditional(states.latents, states.timesteps)
    return (prediction - states.guided).square().flatten(1).mean(1)


@torch.no_grad()
def class_errors(
    adapters: Adapters, prompts: Prompts, states: StoredStates, classes: int, portion: Portion
) -> torch.Tensor:
    """Mean of :func:`errors` over the states of each class: float64 (classes,)."""
    sums, counts = (torch.zeros(classes, dtype=torch.float64) for _ in range(2))

    def of(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        part = states[rows]
        return part.labels, errors(adapters, prompts, part).double().cpu()

    for labels, found in portion.over(torch.arange(len(states)), of):
        sums.index_add_(0, labels, found)
        counts += labels.bincount(minlength=classes)
    return sums / counts


def _rate(step: int, steps: int) -> float:
    """Share of the peak learning rate at ``step`` of ``steps``."""
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2
