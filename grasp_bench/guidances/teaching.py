"""An expert for a range of noise, taught by a classifier's answers at clean images."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch.nn import functional

from grasp_bench import seeds
from grasp_bench.contracts.guidance import Model, SamplingStep, Workshop
from grasp_bench.contracts.objective import Objective
from grasp_bench.contracts.progress import Advance
from grasp_bench.contracts.settings import Settings
from grasp_bench.errors import NonFiniteError
from grasp_bench.guidances.cfg import NoGuidance
from grasp_bench.guidances.trajectories import trajectories
from grasp_bench.processes import sent

ALPHA = 0.5  # of the update relative to its rank, PPAP's 8 at rank 16
AT_ONCE = 64
PUBLISHED = re.compile(r"(.+\.)?(conv[12](\.\d+)?|attn\.(qkv|proj))")
"""Names of the layers that PPAP's code updates, as timm has them: in ResNets the stem and two convolutions of every
block, in vision transformers the attention's."""


class _Drawer(NoGuidance):
    """Sampling without guidance that keeps the latents that it ends with."""

    def __init__(self) -> None:
        super().__init__(Settings())
        self.drawn: torch.Tensor
        """(B, ...) on the CPU."""

    def predict(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> torch.Tensor:
        prediction = super().predict(model, latents, step)
        if step.index == step.count - 1:  # which ends at the estimate of the clean latents
            self.drawn = model.objective.clean(latents, prediction, step.timesteps).cpu()
        return prediction


def drawn(workshop: Workshop, each: int) -> torch.Tensor:
    """Latents (classes * each, ...), on the CPU, of images of every class that the fine-tuned model makes."""
    keys = [(label, number) for label in range(len(workshop.task.classes())) for number in range(each)]
    labels, steps = [label for label, _ in keys], _Drawer().steps(workshop.spec.budget)
    with workshop.progress.task("images for experts", len(keys)) as advance:
        found = trajectories(workshop, lambda part: _Drawer(), steps, labels, keys, AT_ONCE, advance)
        return torch.cat([guidance.drawn for guidance in found])


def taught(
    classifier: torch.nn.Module,
    classify: Callable[[torch.nn.Module, torch.Tensor], torch.Tensor],
    clean: torch.Tensor,
    answers: torch.Tensor,
    timesteps: torch.Tensor,
    objective: Objective,
    *,
    rank: int,
    steps: int,
    batch_size: int,
    learning_rate: float,
    generator: torch.Generator,
    advance: Advance,
) -> torch.nn.Module:
    """A copy of ``classifier`` with low-rank updates, merged, that says of noisy latents what is known of clean ones.

    ``classify`` gives the logits (B, classes) of a network at noisy latents (B, ...). ``clean`` (n, ...) are latents on
    the CPU, ``answers`` (n, classes) the probabilities to learn at their noisy versions, at any of ``timesteps``
    (m,). The loss is the cross-entropy, which is the divergence from the answers up to a constant. The learning rate
    falls linearly to zero. See :func:`learner` for what is trained.

    Raises :class:`NonFiniteError` when the loss is not finite.
    """
    with seeds.global_seed(generator):  # new updates and dropout draw from the global generator
        expert = learner(classifier, rank)
        trained = [parameter for parameter in expert.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, learning_rate, weight_decay=0.05)
        device = trained[0].device
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * (1 - step / steps)
            rows, times = (torch.randint(len(each), (batch_size,), generator=generator) for each in (clean, timesteps))
            noise = torch.randn(batch_size, *clean.shape[1:], generator=generator).to(clean)
            noisy = sent(objective.add_noise(clean[rows], noise, timesteps[times]), device)
            with torch.enable_grad():
                loss = functional.cross_entropy(classify(expert, noisy), sent(answers[rows], device))
                gradients = torch.autograd.grad(loss, trained)
            if step % 50 == 0 and not math.isfinite(loss.item()):
                raise NonFiniteError(f"the loss of an expert is {loss.item()} at step {step}")
            for parameter, gradient in zip(trained, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
            advance(1)
    merged: torch.nn.Module = expert.merge_and_unload()
    return merged.requires_grad_(False).eval()


def learner(classifier: torch.nn.Module, rank: int) -> Any:
    """A copy of ``classifier`` in training mode, through peft: what an expert trains requires gradients.

    That is a low-rank update of every layer that :data:`PUBLISHED` names or, in a network without such layers, of every
    linear and convolutional one; all biases; and the scales of batch normalisation, whose running statistics follow
    the batches. The last layer, which gives the logits, stays as it is, and so do kernels of grouped convolutions.
    """
    import peft

    kinds = torch.nn.Linear | torch.nn.Conv2d
    *layers, head = (name for name, module in classifier.named_modules() if isinstance(module, kinds))
    whole = [name for name in layers if getattr(classifier.get_submodule(name), "groups", 1) == 1]
    targets = [name for name in whole if PUBLISHED.fullmatch(name)] or whole
    exactly = "|".join(map(re.escape, targets))  # a list would also match the ends of other layers' names
    config = peft.LoraConfig(r=rank, lora_alpha=ALPHA * rank, target_modules=exactly, bias="all")
    expert = peft.get_peft_model(deepcopy(classifier), config).train()
    network = expert.get_base_model()
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and module.affine:
            module.weight.requires_grad_()
    network.get_submodule(head).requires_grad_(False)
    return expert
