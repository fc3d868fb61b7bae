"""Which way each class pulls the adapters before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from grasp_bench.adapters.inject import unwrap
from grasp_bench.adapters.residual import RoutedAdapter, add_adapters
from grasp_bench.adapters.routing import Route
from grasp_bench.contracts.backbone import Backbone
from grasp_bench.contracts.scope import scope
from grasp_bench.contracts.study import Study

RANK = 4
BATCHES, BATCH_SIZE = 4, 16


def class_gradients(study: Study) -> np.ndarray:
    """The gradient of every class's training loss, float32 (classes, layers × RANK × D).

    It is that of the output projections U of one adapter gelu(x D) U beside every feed-forward layer, with U = 0 and
    one random D for all classes: what the first step of training would move, of the unchanged base model. Every class
    meets the same noise and timesteps, with 64 of its own images; a class that has fewer repeats them.
    """
    train, latents, embed = study.data().train, study.latents(), study.embed()
    objective, shape = study.backbone.objective, study.backbone.latent_shape
    noise = torch.randn(BATCHES, BATCH_SIZE, *shape, generator=_generator(study, "noise")).to(study.device)
    timesteps = objective.timesteps(BATCHES * BATCH_SIZE, _generator(study, "timesteps")).to(study.device)
    timesteps = timesteps.reshape(BATCHES, BATCH_SIZE)

    def gradient(label: int, ups: list[torch.nn.Parameter]) -> np.ndarray:
        total = torch.zeros(sum(up.numel() for up in ups), device=study.device)
        for number, indices in enumerate(_images(study, train.labels, label)):
            clean = latents.read(indices, np.zeros(BATCH_SIZE, bool)).to(study.device)
            prompts = embed([train.prompts[index] for index in indices]).to(clean)
            drawn, times = noise[number], timesteps[number].to(clean)
            noisy, target = objective.add_noise(clean, drawn, times), objective.target(clean, drawn, times)
            prediction = study.backbone.predict(noisy, times, prompts)
            loss = (prediction - target).square().mean()
            parts = torch.autograd.grad(loss, ups, materialize_grads=True)  # a layer may reach no output
            total += torch.cat([part.flatten() for part in parts])
        found: np.ndarray = total.cpu().numpy()
        return found

    with _adapters(study) as ups:
        return np.stack([gradient(label, ups) for label in range(len(study.task.classes()))])


@contextmanager
def _adapters(study: Study) -> Iterator[list[torch.nn.Parameter]]:
    """The output projections of the adapters that the backbone has inside the block, in the order of its layers."""
    backbone: Backbone = study.backbone
    add_adapters(backbone, 1, RANK, 1.0, _generator(study, "adapters"))
    try:
        backbone.to(study.device)
        adapters = [module for module in backbone.transformer.modules() if isinstance(module, RoutedAdapter)]
        with scope(Route.of(torch.zeros(BATCH_SIZE, dtype=torch.long, device=study.device))):
            yield [adapter.up[0] for adapter in adapters]
    finally:
        unwrap(backbone.transformer, RoutedAdapter)


def _images(study: Study, labels: np.ndarray, label: int) -> np.ndarray:
    """Indices of training images of a class, (BATCHES, BATCH_SIZE), in an order of the run's own."""
    rng = np.random.default_rng(study.stream("partition", "images", label))
    return np.resize(rng.permutation(np.flatnonzero(labels == label)), (BATCHES, BATCH_SIZE))


def _generator(study: Study, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(study.stream("partition", purpose))
