"""Sampling images of every class from a fine-tuned backbone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from grasp_bench import seeds
from grasp_bench.backbones.base import Backbone, PromptEmbeddings
from grasp_bench.checked import Tensors, find_checked, load_checked, save_checked
from grasp_bench.errors import NonFiniteError
from grasp_bench.guidance.base import Guidance, Model, SamplingStep
from grasp_bench.harness.progress import Reporter
from grasp_bench.io import write_json, write_tensors
from grasp_bench.method import Condition, Method, MethodSettings
from grasp_bench.settings import Settings
from grasp_bench.spec import RunSpec

IMAGES = "images.safetensors"
SUMMARY = "generate.json"
KIND = "batch"


@dataclass(frozen=True)
class Subject:
    """What the images of one class are sampled with."""

    prompt: str
    label: int
    """Index of the class among those that the method was fine-tuned on."""


class Sampler:
    """A fine-tuned backbone under a guidance; counts network evaluations."""

    def __init__(
        self, backbone: Backbone, method: Method[MethodSettings], guidance: Guidance[Settings], device: torch.device
    ) -> None:
        self.backbone, self.method, self.guidance, self.device = backbone, method, guidance, device
        self.dtype: torch.dtype = getattr(torch, backbone.sampling_dtype)
        self.evaluations = 0
        """Samples that went through the network, each branch of a guidance counted."""

    @torch.inference_mode()
    def __call__(self, noise: torch.Tensor, prompts: list[str], labels: torch.Tensor, steps: int) -> torch.Tensor:
        """uint8 images (B, C, H, W) from noise (B, ...), one prompt and class index each."""
        latents = noise.to(self.device, self.dtype)
        labels = labels.to(self.device)
        conditional = self.backbone.encode_prompts(prompts).to(latents)
        null = self.backbone.encode_prompts([""] * len(prompts)).to(latents)
        kept, dropped = torch.zeros_like(labels, dtype=torch.bool), torch.ones_like(labels, dtype=torch.bool)

        def conditioned(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return self._forward(x, t, conditional, labels, kept)

        def unconditioned(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return self._forward(x, t, null, labels, dropped)

        def both(x: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            twice, branches = torch.cat([x, x]), torch.cat([kept, dropped])
            output = self._forward(twice, t.repeat(2), conditional.cat(null), labels.repeat(2), branches)
            return output[: len(x)], output[len(x) :]

        model = Model(conditioned, unconditioned, both)
        scheduler = self.backbone.scheduler()
        scheduler.set_timesteps(steps, device=self.device)
        times = scheduler.sigmas.to(latents)[:, None].expand(-1, len(latents))  # descends from 1 to 0; (steps + 1, B)
        memory: dict[str, torch.Tensor] = {}
        for index, timestep in enumerate(scheduler.timesteps):
            step = SamplingStep(index, steps, times[index], times[index + 1], memory)
            prediction = self.guidance.predict(model, latents, step)
            latents = scheduler.step(prediction, timestep, latents, return_dict=False)[0].to(self.dtype)
        if not latents.isfinite().all():
            names = ", ".join(dict.fromkeys(prompts))
            raise NonFiniteError(f"an image is not finite after {steps} sampling steps; the batch's prompts: {names}")
        return self.backbone.decode_latents(latents).cpu()

    def _forward(
        self, x: torch.Tensor, t: torch.Tensor, prompts: PromptEmbeddings, labels: torch.Tensor, dropped: torch.Tensor
    ) -> torch.Tensor:
        self.evaluations += len(x)
        with self.method.condition(Condition(labels, dropped, prompts, t)):
            return self.backbone.predict(x, t, prompts)


def generate(
    spec: RunSpec, subjects: Sequence[Subject], sampler: Sampler, folder: Path, batch_size: int, report: Reporter
) -> None:
    """Write ``images_per_class`` images of each class's subject to ``folder``, class by class.

    Each image has a noise stream of its own, so neither the batch's size nor an interruption changes it; batches
    that are done stay when the work is interrupted.
    """
    each, steps = spec.budget.images_per_class, spec.budget.num_inference_steps
    labels = torch.arange(len(subjects)).repeat_interleave(each)
    backbone = sampler.backbone
    # not the transformer's own `to`, which warns of precision being lowered; this raises it
    torch.nn.Module.to(backbone.transformer, sampler.device, sampler.dtype).eval()
    blank = torch.zeros(1, *backbone.image_shape, dtype=torch.uint8, device=sampler.device)
    shape = backbone.encode_images(blank).shape[1:]
    batches = _finished_batches(folder, report)
    finished = sum(len(batch["images"]) for batch in batches)
    with report.task("generate", len(labels), finished) as advance:
        while finished < len(labels):
            started, evaluations = time.perf_counter(), sampler.evaluations
            chosen = labels[finished : finished + batch_size]
            numbers = range(finished, finished + len(chosen))
            noise = torch.stack([torch.randn(shape, generator=_noise_stream(spec, *divmod(i, each))) for i in numbers])
            shown = [subjects[label] for label in chosen]
            known = torch.tensor([subject.label for subject in shown])
            images = sampler(noise, [subject.prompt for subject in shown], known, steps)
            spent = [time.perf_counter() - started, sampler.evaluations - evaluations]
            batches.append({"images": images, "spent": torch.tensor(spent, dtype=torch.float64)})
            save_checked(folder, KIND, finished, batches[-1])
            finished += len(images)
            advance(len(images))
    write_tensors(folder / IMAGES, {"images": torch.cat([batch["images"] for batch in batches]), "labels": labels})
    seconds, evaluations = torch.stack([batch["spent"] for batch in batches]).sum(0).tolist()
    write_json(
        folder / SUMMARY,
        {"seconds": round(seconds, 3), "network_evaluations_per_image": evaluations / len(labels)},
    )


def _noise_stream(spec: RunSpec, label: int, number: int) -> torch.Generator:
    return seeds.generator("image", spec.task.name, spec.seed, label, number)


def _finished_batches(folder: Path, report: Reporter) -> list[Tensors]:
    """The batches that follow each other from the first image on; whatever lies behind a gap is made again."""
    batches: list[Tensors] = []
    finished = 0
    for start, path in find_checked(folder, KIND):
        if start == finished and (batch := load_checked(path, report.say)) is not None:
            batches.append(batch)
            finished += len(batch["images"])
    return batches
