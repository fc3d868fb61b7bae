"""Distillation of guidance: the predictions of guided trajectories, and adapters that learn to make them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from grasp_bench.adapters.inject import channels_first, input_width, on_tokens, unwrap, wrap
from grasp_bench.contracts.backbone import Backbone
from grasp_bench.contracts.guidance import Guidance, Model, SamplingStep, Workshop
from grasp_bench.contracts.progress import Advance
from grasp_bench.contracts.scope import in_scope, scope
from grasp_bench.errors import NonFiniteError
from grasp_bench.guidances.cfg import CfgSettings, ClassifierFreeGuidance
from grasp_bench.sampling import Sampler

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


@dataclass(frozen=True)
class States:
    """States on the way of guided sampling, and the prediction it followed at each; every field has length n."""

    latents: torch.Tensor
    """x_t, (n, ...)."""
    timesteps: torch.Tensor
    labels: torch.Tensor
    """Class indices."""
    guided: torch.Tensor
    """The guided prediction, (n, ...)."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: torch.Tensor) -> States:
        return States(self.latents[rows], self.timesteps[rows], self.labels[rows], self.guided[rows])

    def to(self, device: torch.device) -> States:
        """The states on ``device``."""
        return States(*(tensor.to(device) for tensor in vars(self).values()))


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


class Recorder(ClassifierFreeGuidance):
    """Classifier-free guidance that keeps every state of its trajectories."""

    def __init__(self, guidance_scale: float) -> None:
        super().__init__(CfgSettings(guidance_scale=guidance_scale))
        self.found: list[States] = []

    def predict(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> torch.Tensor:
        guided = super().predict(model, latents, step)
        self.found.append(States(latents, step.timesteps, model.labels, guided).to(torch.device("cpu")))
        return guided

    @property
    def states(self) -> States:
        """All states that were kept, on the CPU."""
        return States(*(torch.cat(each) for each in zip(*(vars(part).values() for part in self.found), strict=True)))


def collect(
    workshop: Workshop, guidance_scale: float, steps: int, numbers: Sequence[int], batch_size: int, advance: Advance
) -> States:
    """The states of one guided trajectory of ``steps`` for each class and each of ``numbers``."""
    teacher = Recorder(guidance_scale)
    keys = [(label, number) for number in numbers for label in range(len(workshop.task.classes()))]
    trajectories(workshop, teacher, steps, [label for label, _ in keys], keys, batch_size, advance)
    return teacher.states


def trajectories(
    workshop: Workshop,
    guidance: Guidance[Any],
    steps: int,
    labels: Sequence[int],
    keys: Sequence[tuple[int, ...]],
    at_once: int,
    advance: Advance,
) -> None:
    """Sample an image of each class in ``labels``, from the stream of its key, for what the guidance sees on the way.

    ``at_once`` of them are sampled together.
    """
    precision, prompts = workshop.spec.budget.precision, [info.prompt for info in workshop.task.classes()]
    sampler = Sampler(workshop.backbone, workshop.method, guidance, workshop.device, precision, workshop.embed)
    for start in range(0, len(labels), at_once):
        part = labels[start : start + at_once]
        streams = [workshop.generator("trajectory", *key) for key in keys[start : start + at_once]]
        noise = torch.stack([torch.randn(workshop.backbone.latent_shape, generator=stream) for stream in streams])
        sampler.denoise(noise, [prompts[label] for label in part], torch.tensor(part), steps, streams)
        advance(len(part))


def fit(
    adapters: Adapters,
    prompts: Prompts,
    states: States,
    steps: int,
    batch_size: int,
    learning_rate: float,
    generator: torch.Generator,
    advance: Advance,
) -> None:
    """Train the adapters' conditional prediction towards the guided one: AdamW, warm-up, then a cosine to zero.

    Raises :class:`NonFiniteError` when the loss is not finite.
    """
    parameters = list(adapters.parameters().values())
    optimizer = torch.optim.AdamW(parameters, learning_rate, weight_decay=0.0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * _rate(step, steps)
        batch = states[torch.randint(len(states), (batch_size,), generator=generator)]
        loss = errors(adapters, prompts, batch).mean()
        if not loss.isfinite():
            raise NonFiniteError(f"the loss of the distilled guidance is {loss.item()} at step {step}")
        # of the adapters alone: what the method trained keeps neither gradient nor change
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        optimizer.step()
        advance(1)


def errors(adapters: Adapters, prompts: Prompts, states: States) -> torch.Tensor:
    """Mean squared difference of the adapted and the guided prediction of each state: (n,)."""
    states = states.to(prompts.workshop.device)
    with adapters.active():
        prediction = prompts.model(states.labels, states.latents).conditional(states.latents, states.timesteps)
    return (prediction - states.guided).square().flatten(1).mean(1)


@torch.no_grad()
def class_errors(adapters: Adapters, prompts: Prompts, states: States, classes: int, batch_size: int) -> torch.Tensor:
    """Mean of :func:`errors` over the states of each class: float64 (classes,)."""
    rows = torch.arange(len(states)).split(batch_size)
    each = torch.cat([errors(adapters, prompts, states[part]).double().cpu() for part in rows])
    sums = torch.zeros(classes, dtype=torch.float64).index_add_(0, states.labels, each)
    return sums / states.labels.bincount(minlength=classes)


def _rate(step: int, steps: int) -> float:
    """Share of the peak learning rate at ``step`` of ``steps``."""
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2
