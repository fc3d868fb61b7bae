"""Sampling images of every class from a fine-tuned backbone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from grasp_bench import seeds
from grasp_bench.checked import Tensors, find_checked, load_checked, save_checked
from grasp_bench.contracts.backbone import Backbone, PromptEmbeddings
from grasp_bench.contracts.guidance import Guidance, Model, SamplingStep
from grasp_bench.contracts.method import Condition, Method, MethodSettings
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.settings import Settings
from grasp_bench.contracts.spec import Precision, RunSpec
from grasp_bench.errors import NonFiniteError, UserError
from grasp_bench.io import write_json, write_tensors
from grasp_bench.processes import Processes
from grasp_bench.run.environment import PeakMemory
from grasp_bench.run.flops import FlopCount
from grasp_bench.run.training.precision import autocast

IMAGES = "images.safetensors"
SUMMARY = "generate.json"
KIND = "batch"
SPENT = ("seconds", "evaluations", "backward_passes", "flops_per_image", "peak_memory_mib")
"""What every batch says of itself; operations are counted in the first, and zero elsewhere: counting slows it down."""


@dataclass(frozen=True)
class Subject:
    """What the images of one class are sampled with."""

    prompt: str
    label: int
    """Index of the class among those that the method was fine-tuned on."""


class Network:
    """A backbone with a method on it; counts the samples that go through, and the gradients that come back."""

    def __init__(
        self, backbone: Backbone, method: Method[MethodSettings], device: torch.device, precision: Precision = "float32"
    ) -> None:
        self.backbone, self.method, self.device, self.precision = backbone, method, device, precision
        self.evaluations = 0
        """Samples that went through, each branch of a guidance counted."""
        self.backward_passes = 0
        """Those of them that a gradient came back through."""

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
        self.precision, self.embed = precision, embed or (lambda prompts: backbone.encode_prompts(list(prompts)))
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
        transformer = backbone.transformer.eval()
        if self.precision == "float32":
            # not the transformer's own `to`, which warns of precision being lowered; this raises it
            torch.nn.Module.to(transformer, self.device, self.dtype)

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
        """The same before they are decoded: latents (B, ...)."""
        latents = noise.to(self.device, self.dtype)
        labels = labels.to(self.device)
        conditional = self.embed(prompts).to(latents)
        null = self.embed([""] * len(prompts)).to(latents)
        model = Model(self.networks[0], self.backbone.objective, labels, conditional, null)
        scheduler = self.backbone.scheduler(steps, self.device)
        times = self.backbone.objective.levels(scheduler).to(latents)[:, None]
        times = times.expand(-1, len(latents))  # descends from 1 to 0; (steps + 1, B)
        memory: dict[str, torch.Tensor] = {}
        for index, timestep in enumerate(scheduler.timesteps):
            step = SamplingStep(index, steps, times[index], times[index + 1], memory, generators or [])
            prediction = self.guidance.predict(model, latents, step)
            latents = scheduler.step(prediction, timestep, latents, return_dict=False)[0].to(self.dtype)
        if not latents.isfinite().all():
            names = ", ".join(dict.fromkeys(prompts))
            raise NonFiniteError(f"an image is not finite after {steps} sampling steps; the batch's prompts: {names}")
        return latents


def generate(
    spec: RunSpec,
    subjects: Sequence[Subject],
    sampler: Sampler,
    folder: Path,
    batch_size: int,
    processes: Processes,
    progress: Progress,
) -> None:
    """Write ``images_per_class`` images of each class's subject to ``folder``, class by class.

    Each image has a noise stream of its own, so neither the batch's size, the number of processes nor an interruption
    changes what it is made from; batches that are done stay when the work is interrupted. Raises :class:`UserError`
    where a guidance takes more network evaluations than it says.
    """
    each, steps = spec.budget.images_per_class, sampler.guidance.steps(spec.budget)
    labels = torch.arange(len(subjects)).repeat_interleave(each)
    sampler.place(sampler.backbone)
    memory = PeakMemory(sampler.device)
    made = processes.first_says(lambda: torch.cat([torch.zeros(0).long(), *_numbers(folder, progress)]).tolist())
    missing = sorted(set(range(len(labels))).difference(made))
    batches = [missing[start : start + batch_size] for start in range(0, len(missing), batch_size)]
    with progress.task("generate", len(labels), len(made)) as advance:
        for numbers in processes.share(batches):
            started, evaluations, backward = time.perf_counter(), sampler.evaluations, sampler.backward_passes
            operations = FlopCount()
            with operations if numbers[0] == 0 else nullcontext():
                images = _sample(spec, subjects, labels, steps, sampler, numbers)
            spent = {
                "seconds": time.perf_counter() - started,
                "evaluations": sampler.evaluations - evaluations,
                "backward_passes": sampler.backward_passes - backward,
                "flops_per_image": operations.total / len(numbers),
                "peak_memory_mib": memory.mib(),
            }
            _check_spent(spec, steps, spent["evaluations"] / len(numbers))
            batch = {"images": images, "numbers": torch.tensor(numbers)}
            batch |= {name: torch.tensor(value, dtype=torch.float64) for name, value in spent.items()}
            save_checked(folder, KIND, numbers[0], batch)
            advance(len(images))
    processes.wait()
    if processes.is_first:
        _collect(folder, labels, progress)


def _sample(
    spec: RunSpec, subjects: Sequence[Subject], labels: torch.Tensor, steps: int, sampler: Sampler, numbers: list[int]
) -> torch.Tensor:
    """The images of those ``numbers``, (B, C, H, W) in uint8; ``labels`` has the class of every image."""
    shown = [subjects[label] for label in labels[numbers]]
    each, shape = spec.budget.images_per_class, sampler.backbone.latent_shape
    streams = [noise_stream(spec.task.name, spec.seed, *divmod(number, each)) for number in numbers]
    noise = torch.stack([torch.randn(shape, generator=stream) for stream in streams])
    known = torch.tensor([subject.label for subject in shown])
    return sampler(noise, [subject.prompt for subject in shown], known, steps, streams)


def _check_spent(spec: RunSpec, steps: int, evaluations: float) -> None:
    """Refuse more ``evaluations`` an image than the budget has: what is compared at equal numbers would not be."""
    limit = spec.budget.evaluations
    if limit is not None and evaluations > limit:
        raise UserError(
            f"guidance {spec.guidance.name} took {evaluations:g} network evaluations an image in {steps} steps, though "
            f"by its own account that many take {limit} at most. Correct its evaluations_per_step."
        )


def _collect(folder: Path, labels: torch.Tensor, progress: Progress) -> None:
    """Write all images as one file, and what they cost."""
    batches = list(_batches(folder, progress))
    order = torch.cat([batch["numbers"] for batch in batches]).argsort()
    images = torch.cat([batch["images"] for batch in batches])[order]
    write_tensors(folder / IMAGES, {"images": images, "labels": labels})
    spent = {name: torch.stack([batch[name] for batch in batches]) for name in SPENT}
    total = {name: each.sum().item() for name, each in spent.items()}
    counted = int(spent["flops_per_image"].argmax())  # the batch in which operations were
    evaluations = total["evaluations"] / len(labels)
    share = evaluations * len(batches[counted]["numbers"]) / (spent["evaluations"][counted].item() or math.inf)
    write_json(
        folder / SUMMARY,
        {
            "seconds": round(total["seconds"], 3),
            "network_evaluations_per_image": evaluations,
            "backward_passes_per_image": total["backward_passes"] / len(labels),
            "gflops_per_image": total["flops_per_image"] * share / 1e9,
            "peak_memory_mib": round(spent["peak_memory_mib"].max().item(), 1),
        },
    )


def noise_stream(task: str, seed: int, label: int, number: int) -> torch.Generator:
    """What the initial noise of one image is drawn from: the ``number``-th of a class, counted from 0."""
    return seeds.generator("image", task, seed, label, number)


def _batches(folder: Path, progress: Progress) -> Iterator[Tensors]:
    """The batches that are done and sound."""
    for _, path in find_checked(folder, KIND):
        if (batch := load_checked(path, progress.say)) is not None:
            yield batch


def _numbers(folder: Path, progress: Progress) -> Iterator[torch.Tensor]:
    """Of each batch that is done, which images it has."""
    return (batch["numbers"] for batch in _batches(folder, progress))
