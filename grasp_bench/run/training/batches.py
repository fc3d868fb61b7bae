"""What a training step sees: the same images, noise, timesteps and dropped prompts for every method."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from grasp_bench import seeds
from grasp_bench.contracts.backbone import Backbone, PromptEmbeddings
from grasp_bench.contracts.method import Batch, Condition
from grasp_bench.contracts.second_stage import SecondStage
from grasp_bench.contracts.spec import RunSpec
from grasp_bench.contracts.study import LatentSource
from grasp_bench.contracts.task import Split
from grasp_bench.data.order import DataOrder
from grasp_bench.known import known
from grasp_bench.processes import ALONE, Processes, sent
from grasp_bench.run.training.prompts import NearPrompts


class Batches:
    """The batch of every step, a function of (task, seed, step) and, when it resamples, the method's class weights.

    Random numbers are drawn for the whole step, and each process takes its own rows of them.
    """

    def __init__(
        self,
        spec: RunSpec,
        split: Split,
        backbone: Backbone,
        latents: LatentSource,
        embed: Callable[[Sequence[str]], PromptEmbeddings],
        device: torch.device,
        class_weights: np.ndarray | None,
        processes: Processes = ALONE,
        loss_weights: np.ndarray | None = None,
        clusters: np.ndarray | None = None,
        second: SecondStage | None = None,
    ) -> None:
        """``class_weights`` (classes,) weight the draw of images, ``loss_weights`` (classes,) the losses of samples.

        ``clusters`` (n,) are the method's :meth:`~grasp_bench.contracts.method.Method.training_clusters`,
        ``second`` its :meth:`~grasp_bench.contracts.method.Method.second_stage`.
        """
        self.spec, self.split, self.backbone = spec, split, backbone
        self.latents, self.device = latents, device
        self.prompts = NearPrompts(embed, split.prompts, device)
        self.rows = processes.rows(spec.budget.batch_size)
        self.order = self._order(class_weights)
        self.second = second
        self.second_order = self.order if second is None else self._order(second.sample_weights)
        self.loss_weights = None if loss_weights is None else torch.from_numpy(loss_weights)
        self.clusters = None if clusters is None else torch.from_numpy(clusters)
        self.reader = ThreadPoolExecutor(1)
        self.ahead: dict[int, Future[Batch]] = {}

    def _order(self, class_weights: np.ndarray | None) -> DataOrder:
        """Return the order of images that are drawn by weights (classes,), or all alike."""
        weights = None if class_weights is None else class_weights[self.split.labels]
        spec = self.spec
        return DataOrder(spec.task.name, spec.seed, len(self.split), spec.budget.batch_size, weights)

    def __call__(self, step: int) -> Batch:
        """Return the batch of ``step``, counted from 0, and begin to read the next one in the background."""
        pending = self.ahead.pop(step, None)
        self.ahead = {step + 1: self.reader.submit(self.batch, step + 1)}
        return pending.result() if pending else self.batch(step)

    def batch(self, step: int) -> Batch:
        """Return the batch of ``step``, made now; nothing is read ahead."""
        task, seed, size, rows = self.spec.task.name, self.spec.seed, self.spec.budget.batch_size, self.rows
        objective = self.backbone.objective
        indices = (self.order if self.second is None or step < self.second.start else self.second_order)(step)
        noise = torch.randn(size, *self.backbone.latent_shape, generator=seeds.generator("noise", task, seed, step))
        timesteps = objective.timesteps(size, seeds.generator("timesteps", task, seed, step))
        coins = torch.rand(size, generator=seeds.generator("drop", task, seed, step))
        dropped = coins < self.spec.budget.prompt_dropout
        mirrored = self._mirrored(step)

        ids = [self.split.ids[index] for index in indices]
        digest = hashlib.sha256("\n".join(ids).encode())
        for tensor in (noise, timesteps, dropped):
            digest.update(tensor.numpy().data)
        if self.spec.budget.horizontal_flip:
            digest.update(mirrored.data)

        latents = self._sent(self.latents.read(indices[rows], mirrored[rows]))
        dtype = latents.dtype
        noise, timesteps, dropped = self._sent(noise[rows].to(dtype)), timesteps[rows].to(dtype), dropped[rows]
        labels = torch.from_numpy(self.split.labels[indices[rows]])
        prompts = [
            "" if gone else self.split.prompts[index]
            for index, gone in zip(indices[rows], dropped.tolist(), strict=True)
        ]
        return Batch(
            ids=ids[rows],
            latents=latents,
            noise=noise,
            noisy=objective.add_noise(latents, noise, timesteps),  # timesteps that are on the CPU can be looked up
            target=objective.target(latents, noise, timesteps),
            condition=Condition(
                labels=known(labels, self.device),
                dropped=known(dropped, self.device),
                prompts=self.prompts(prompts, dtype),
                timesteps=known(timesteps, self.device),
                clusters=None if self.clusters is None else known(self.clusters[indices[rows]], self.device),
            ),
            generator=seeds.generator("method", task, seed, step),
            digest=digest.digest(),
            weights=self._weights(labels, timesteps),
            offset=rows.start,
            step_size=size,
            embed=lambda prompts: self.prompts(prompts, dtype),
        )

    def _weights(self, labels: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor | None:
        """Return what losses are multiplied by, (B,): the objective's weights times those of the classes."""
        weights = self.backbone.objective.weights(timesteps)
        if self.loss_weights is not None:
            by_class = self.loss_weights[labels].to(timesteps)
            weights = by_class if weights is None else by_class * weights
        return None if weights is None else self._sent(weights)

    def _sent(self, tensor: torch.Tensor) -> torch.Tensor:
        return sent(tensor, self.device)

    def _mirrored(self, step: int) -> np.ndarray:
        size = self.spec.budget.batch_size
        if not self.spec.budget.horizontal_flip:
            return np.zeros(size, bool)
        return seeds.rng("flip", self.spec.task.name, self.spec.seed, step).random(size) < 0.5
