"""An expert for a range of noise, taught by a classifier's answers at clean images."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy

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
    (m,). The loss is the cross-entropy, which is the divergence from the answers up to a constant.

    Raises :class:`NonFiniteError` when the loss is not finite.
    """
    import peft

    kinds = torch.nn.Linear | torch.nn.Conv2d
    layers = [name for name, module in classifier.named_modules() if isinstance(module, kinds)]
    config = peft.LoraConfig(r=rank, lora_alpha=ALPHA * rank, target_modules=layers, bias="all")
    with seeds.global_seed(generator):
        expert = peft.get_peft_model(deepcopy(classifier), config)
    trained = [parameter for parameter in expert.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, learning_rate, weight_decay=0.05)
    device = trained[0].device
    for step in range(steps):
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
