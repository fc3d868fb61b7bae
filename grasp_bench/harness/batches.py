"""What a training step sees: the same images, noise, timesteps and dropped prompts for every method."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from grasp_bench import seeds
from grasp_bench.backbones.base import Backbone, PromptEmbeddings
from grasp_bench.data.order import DataOrder
from grasp_bench.method import Batch, Condition
from grasp_bench.spec import RunSpec
from grasp_bench.task import Split


class Batches:
    """The batch of every step, a function of (task, seed, step) and, when it resamples, the method's class weights."""

    def __init__(
        self, spec: RunSpec, split: Split, backbone: Backbone, device: torch.device, class_weights: np.ndarray | None
    ) -> None:
        self.spec, self.split, self.backbone, self.device = spec, split, backbone, device
        weights = None if class_weights is None else class_weights[split.labels]
        self.order = DataOrder(spec.task.name, spec.seed, len(split), spec.budget.batch_size, weights)
        vocabulary = sorted(set(split.prompts))
        self.embeddings = backbone.encode_prompts(vocabulary)
        self.null = backbone.encode_prompts([""])
        self.reader = ThreadPoolExecutor(1)
        self.ahead: dict[int, Future[np.ndarray]] = {}
        positions = {prompt: position for position, prompt in enumerate(vocabulary)}
        self.captions = torch.tensor([positions[prompt] for prompt in split.prompts])

    def __call__(self, step: int) -> Batch:
        """The batch of ``step``, counted from 0."""
        task, seed, size = self.spec.task.name, self.spec.seed, self.spec.budget.batch_size
        objective = self.backbone.objective
        indices = self.order(step)
        latents = self.backbone.encode_images(torch.from_numpy(self._read(step)).to(self.device))
        noise = torch.randn(latents.shape, generator=seeds.generator("noise", task, seed, step))
        timesteps = objective.timesteps(size, seeds.generator("timesteps", task, seed, step))
        coins = torch.rand(size, generator=seeds.generator("drop", task, seed, step))
        dropped = coins < self.spec.budget.prompt_dropout
        prompts = self._prompts(torch.from_numpy(indices), dropped).to(latents)

        ids = [self.split.ids[index] for index in indices]
        digest = hashlib.sha256("\n".join(ids).encode())
        for tensor in (noise, timesteps, dropped):
            digest.update(tensor.numpy().tobytes())
        noise, timesteps = noise.to(latents), timesteps.to(latents)
        return Batch(
            ids=ids,
            latents=latents,
            noise=noise,
            noisy=objective.add_noise(latents, noise, timesteps),
            target=objective.target(latents, noise, timesteps),
            condition=Condition(
                labels=torch.from_numpy(self.split.labels[indices]).to(self.device),
                dropped=dropped.to(self.device),
                prompts=prompts,
                timesteps=timesteps,
            ),
            generator=seeds.generator("method", task, seed, step),
            digest=digest.digest(),
        )

    def _read(self, step: int) -> np.ndarray:
        """Images of ``step``, and those of the next in the background while this one is worked on."""
        pending = self.ahead.pop(step, None)
        self.ahead = {step + 1: self.reader.submit(self.split.read, self.order(step + 1))}
        return pending.result() if pending else self.split.read(self.order(step))

    def _prompts(self, indices: torch.Tensor, dropped: torch.Tensor) -> PromptEmbeddings:
        return self.embeddings[self.captions[indices]].where(~dropped, self.null)
