"""Sampling images of every class from a fine-tuned backbone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from grasp_bench import seeds
from grasp_bench.contracts.backbone import Backbone, PromptEmbeddings
from grasp_bench.contracts.guidance import Guidance, Model, SamplingStep
from grasp_bench.contracts.method import Condition, Method, MethodSettings
from grasp_bench.contracts.settings import Settings
from grasp_bench.contracts.spec import Precision
from grasp_bench.errors import NonFiniteError
from grasp_bench.known import known
from grasp_bench.precision import autocast
from grasp_bench.processes import sent


class Network:
    """A backbone with a method on it; counts the samples that go through, and the gradients that come back."""

    def __init__(
        self, backbone: Backbone, method: Method[MethodSettings], device: torch.device, precision: Precision = "float32"
    ) -> None:
        self.backbone, self.method, self.device, self.precision = backbone, method, device, precision
        self.evaluations = 0
        """Samples that went through, each branch of a guidance counted."""
        self.backward_passes = 0
        """Samples that a gradient came back through."""

    def __call__(self, latents: torch.Tensor, condition: Condition) -> torch.Tensor:
        """The prediction (B, ...) at noisy latents (B, ...)."""
        self.evaluations += len(latents)
        with self.method.condition(condition), autocast(self.precision, self.device):
            prediction = self.backbone.predict(latents, condition.timesteps, condition.prompts).to(latents)
        if prediction.requires_grad:
            prediction.register_hook(self._count_backward)
        return prediction

    def _count_backward(self, gradient: torch.Tensor) -> None:
        self.backward_passes += len(gradient)


class Sampler:
    """A fine-tuned network under a guidance."""

    def __init__(
        self,
        backbone: Backbone,
        method: Method[MethodSettings],
        guidance: Guidance[Settings],
        device: torch.device,
        precision: Precision = "float32",
        embed: Callable[[Sequence[str]], PromptEmbeddings] | None = None,
    ) -> None:
        """``embed`` is where embeddings of prompts come from: the backbone itself, unless they were stored."""
        self.backbone, self.method, self.guidance, self.device = backbone, method, guidance, device
        self.precision, self.stored = precision, embed is not None
        self.embed = embed or (lambda prompts: backbone.encode_prompts(list(prompts)))
        self._prepare(backbone)
        self.networks = [Network(backbone, method, device, precision)]
        """The fine-tuned one, and others that a guidance compares it with."""
        # autocast leaves double precision alone
        self.dtype = torch.float32 if precision == "bfloat16" else getattr(torch, backbone.sampling_dtype)

    @property
    def evaluations(self) -> int:
        """Samples that went through a network, each branch of a guidance counted."""
        return sum(network.evaluations for network in self.networks)

    @property
    def backward_passes(self) -> int:
        """Samples whose gradient came back through a network."""
        return sum(network.backward_passes for network in self.networks)

    def place(self, backbone: Backbone) -> None:
        """Bring a transformer to the device, the precision and the mode of sampling."""
        self._prepare(backbone)
        transformer = backbone.transformer.eval()
        if self.precision == "float32":
            # not the transformer's own `to`, which warns of precision being lowered; this raises it
            torch.nn.Module.to(transformer, self.device, self.dtype)

    def _prepare(self, backbone: Backbone) -> None:
        backbone.prepare_sampling()
        if not self.guidance.guides:
            backbone.leave_out_guidance()

    def _near(self, prompts: Sequence[str], latents: torch.Tensor) -> PromptEmbeddings:
        """Embeddings of prompts beside the latents; of stored ones each distinct one is copied once."""
        if not self.stored:
            return self.embed(prompts).to(latents)
        distinct = list(dict.fromkeys(prompts))
        rows = torch.tensor([distinct.index(prompt) for prompt in prompts])
        return self.embed(distinct).to(latents)[sent(rows, latents.device)]

    @torch.no_grad()
    def __call__(
        self,
        noise: torch.Tensor,
        prompts: list[str],
        labels: torch.Tensor,
        steps: int,
        generators: list[torch.Generator] | None = None,
    ) -> torch.Tensor:
        """uint8 images (B, C, H, W) from noise (B, ...), one prompt and class index each.

        ``generators``, one an image, are for guidances that draw.
        """
        return self.backbone.decode_latents(self.denoise(noise, prompts, labels, steps, generators)).cpu()

    @torch.no_grad()
    def denoise(
        self,
        noise: torch.Tensor,
        prompts: list[str],
        labels: torch.Tensor,
        steps: int,
        generators: list[torch.Generator] | None = None,
    ) -> torch.Tensor:
        """The latents (B, ...) of the images, before they are decoded."""
        latents = noise.to(self.device, self.dtype)
        labels = known(labels, self.device)
        conditional, null = (self._near(each, latents) for each in (prompts, [""] * len(prompts)))
        model = Model(self.networks[0], self.backbone.objective, labels, conditional, null)
        scheduler = self.backbone.scheduler(steps, self.device)
        times = known(self.backbone.objective.levels(scheduler).cpu().to(latents.dtype), self.device)[:, None]
        times = times.expand(-1, len(latents))  # descends from 1 to 0; (steps + 1, B)
        memory: dict[str, torch.Tensor] = {}
        for index, timestep in enumerate(scheduler.timesteps.cpu()):  # read once, rather than at every step
            step = SamplingStep(index, steps, times[index], times[index + 1], memory, generators or [])
            prediction = self.guidance.predict(model, latents, step)
            latents = scheduler.step(prediction, timestep, latents, return_dict=False)[0].to(self.dtype)
        if not latents.isfinite().all():
            names = ", ".join(dict.fromkeys(prompts))
            raise NonFiniteError(f"an image is not finite after {steps} sampling steps; the batch's prompts: {names}")
        return latents


def noise_stream(task: str, seed: int, label: int, number: int) -> torch.Generator:
    """What the initial noise of one image is drawn from: the ``number``-th of a class, counted from 0."""
    return seeds.generator("image", task, seed, label, number)
