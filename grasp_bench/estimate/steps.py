"""What one step takes, of training, sampling, encoding, decoding and classification: the harness's own, simulated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from grasp_bench import seeds
from grasp_bench.adapters.tread import refusal, routed_training
from grasp_bench.contracts.backbone import Backbone
from grasp_bench.contracts.guidance import Workshop
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.task import Dataset, Split
from grasp_bench.downstream.networks import build
from grasp_bench.estimate.configured import configured
from grasp_bench.estimate.simulate import SimulatedGpu
from grasp_bench.estimate.subject import Subject
from grasp_bench.estimate.values import KNOWN
from grasp_bench.precision import store_frozen
from grasp_bench.processes import ALONE
from grasp_bench.run.training import loop
from grasp_bench.run.training.batches import Batches
from grasp_bench.run.training.checkpoint import State
from grasp_bench.run.training.optimizer import make_optimizer
from grasp_bench.run.training.placement import Placement
from grasp_bench.sampling import Network, Sampler

CUDA, HOST = torch.device("cuda"), torch.device("cpu")


@dataclass(frozen=True)
class Taken:
    """What a piece of work took."""

    peak: int
    """Most bytes that were live on the GPU."""
    flops: int
    traffic: int
    """Bytes that kernels read and wrote, each by itself."""
    syncs: Counter[str]
    """Place in the code → how often the host waited there for the GPU."""
    uploads: Counter[str]
    """Place in the code → how often the host sent something there and waited."""
    float64: Counter[str]
    """Place in the code → how often a large tensor in float64 was made there."""

    @classmethod
    def by(cls, gpu: SimulatedGpu) -> Taken:
        """Return what was counted since the last reset, and count anew."""
        found = cls(gpu.peak, gpu.flops, gpu.traffic, Counter(gpu.syncs), Counter(gpu.uploads), Counter(gpu.float64))
        gpu.reset()
        return found


@dataclass(frozen=True)
class Shapes:
    """What a backbone reads and makes."""

    pixels: tuple[int, int, int]
    """(C, H, W) of an image."""
    latent: tuple[int, int, int]
    """(C, h, w) of its latent."""
    encoded: bool
    """Whether an autoencoder makes latents of images."""
    prompt: int
    """Bytes of a prompt's embedding."""
    tokens: int
    """Tokens of a prompt."""
    encoders: int
    """Parameters of the text encoders."""


def shapes(subject: Subject) -> Shapes:
    """Return what the subject's backbone reads and makes."""
    with SimulatedGpu():
        backbone = _backbone(subject)
        embedded = backbone.encode_prompts([""])
        content = getattr(getattr(backbone, "saved", None), "content", {})
        return Shapes(
            _pixels(backbone),
            backbone.latent_shape,
            bool(content),
            sum(each.numel() * each.element_size() for each in embedded.tensors().values()),
            embedded.tokens.shape[1],
            sum(content.get("text_encoders", {}).values()),
        )


@dataclass(frozen=True)
class TrainingStep:
    """A training step of some images in one part."""

    parameters: int
    """Trainable parameters."""
    total: int
    """Parameters of the transformer, what the method adds included."""
    weights: int
    """Bytes of the transformer's weights."""
    gradients: int
    """Bytes of the gradients of every trainable parameter, whether or not this batch reaches it."""
    optimizer: int
    """Bytes of the optimiser's state of every trainable parameter."""
    batch: Taken
    """Making the batch and sending it to the GPU."""
    passes: Taken
    """The forward and backward passes; its peak lacks the optimiser's state."""
    update: Taken
    """Clipping and the optimiser's step."""


def training_step(subject: Subject, images: int, large: int = KNOWN) -> TrainingStep:
    """Return what a training step of ``images`` takes; ``large`` as of :class:`SimulatedGpu`."""
    return next(training_steps(subject, [(images, False)], large))


def training_steps(subject: Subject, ways: Sequence[tuple[int, bool]], large: int = KNOWN) -> Iterator[TrainingStep]:
    """Yield what first training steps take, of as many images and with gradient checkpointing or not.

    Once it is on, gradient checkpointing stays on.
    """
    with SimulatedGpu(large) as gpu:
        backbone, method = _attached(subject)
        backbone.transformer.train()
        groups = loop.GroupLoss(subject.task.groups, subject.task.group_indices())
        placement = Placement(backbone, list(method.parameters().values()), set(), ALONE)
        checkpointed = False
        for images, checkpointing in ways:
            if checkpointing and not checkpointed:
                backbone.enable_gradient_checkpointing()
                checkpointed = True
            yield _step(gpu, subject, backbone, method, groups, placement, images)


def _step(
    gpu: SimulatedGpu,
    subject: Subject,
    backbone: Backbone,
    method: Method[MethodSettings],
    groups: loop.GroupLoss,
    placement: Placement,
    images: int,
) -> TrainingStep:
    """Take a first step, and let go of its gradients and of the optimiser."""
    named, weights = method.parameters(), gpu.live
    parameters = list(named.values())
    optimizer = make_optimizer(subject.budget.optimizer, parameters, method.config)
    batches = _batches(subject, backbone, method, images)
    with routed_training(backbone, method.config.tread) as leave_tokens_out:
        gpu.reset()
        batch = batches._batch(0)
        made = Taken.by(gpu)
        loss = loop._backward([batch], backbone, method, groups, subject.budget.precision, placement, leave_tokens_out)
        passes, before = Taken.by(gpu), gpu.live
        loop._update(State(named, {}, optimizer), subject.budget, loss, 0, batch)
        state, update = gpu.live - before, Taken.by(gpu)
    sizes = [parameter.numel() for parameter in parameters]
    reached = sum(parameter.numel() for parameter in parameters if parameter.grad is not None)
    optimizer.zero_grad()
    return TrainingStep(
        sum(sizes),
        sum(parameter.numel() for parameter in backbone.transformer.parameters()),
        weights,
        sum(parameter.numel() * parameter.element_size() for parameter in parameters),
        round(state * sum(sizes) / max(1, reached)),
        made,
        passes,
        update,
    )


@dataclass(frozen=True)
class SamplingStep:
    """Sampling some images, without decoding them."""

    weights: int
    """Bytes of the weights of the transformer, and of another that the guidance compares it with."""
    evaluations: int
    """Network evaluations, of all images and steps."""
    taken: Taken


def sampling_step(
    subject: Subject, images: int, steps: int = 1, large: int = KNOWN, learned: Path | None = None
) -> SamplingStep:
    """Return what ``steps`` sampling steps of ``images`` take; ``learned`` is the folder that the guidance left."""
    with SimulatedGpu(large) as gpu:
        backbone, method = _attached(subject)
        guidance = subject.guidance
        sampler = Sampler(backbone, method, guidance, CUDA, subject.budget.precision)
        sampler.place(backbone)
        guidance.prepare(_workshop(subject, sampler), learned)
        weights = gpu.live
        noise = torch.zeros(images, *backbone.latent_shape)
        labels, infos = subject.mixed(images), subject.task.classes()
        streams = [seeds.generator("estimate", number) for number in range(images)]
        gpu.reset()
        sampler.denoise(noise, [infos[label].prompt for label in labels], torch.tensor(labels), steps, streams)
        return SamplingStep(weights, sampler.evaluations, Taken.by(gpu))


@dataclass(frozen=True)
class Coding:
    """The autoencoder's work on some images."""

    weights: int
    encode: Taken
    decode: Taken


def coding(subject: Subject, images: int) -> Coding:
    """Return what encoding and decoding ``images`` takes, with the autoencoder alone on the GPU."""
    with SimulatedGpu() as gpu:
        backbone = _backbone(subject)
        backbone.to(CUDA).transformer.to(HOST)  # the encoders follow the backbone, and are alone
        pixels = _pixels(backbone)
        backbone.encode_images(torch.zeros(1, *pixels, dtype=torch.uint8))  # loads the autoencoder
        weights = gpu.live
        gpu.reset()
        backbone.encode_images(torch.zeros(images, *pixels, dtype=torch.uint8))
        encode = Taken.by(gpu)
        backbone.decode_latents(torch.zeros(images, *backbone.latent_shape, device=CUDA))
        return Coding(weights, encode, Taken.by(gpu))


@dataclass(frozen=True)
class Classification:
    """A training step of the downstream classifier."""

    parameters: int
    pixels: int
    """Pixels a side that it reads."""
    step: Taken
    """Of the recipe's batch."""


def classification(subject: Subject) -> Classification:
    """Return what a training step of the task's downstream classifier takes."""
    recipe = subject.sampled.classifier
    with SimulatedGpu() as gpu:
        channels, height, _ = _pixels(_backbone(subject))
        side, classes = recipe.resolution or height, len(subject.sampled.classes())
        network = build(recipe.network, channels, classes).to(CUDA).train()
        optimizer = torch.optim.AdamW(network.parameters())
        gpu.reset()
        images = torch.zeros(recipe.batch_size, channels, side, side, device=CUDA)
        torch.nn.functional.cross_entropy(network(images), torch.zeros(recipe.batch_size).long().to(CUDA)).backward()
        optimizer.step()
        return Classification(sum(each.numel() for each in network.parameters()), side, Taken.by(gpu))


class SkippedError(Exception):
    """The method or the guidance does not apply to the backbone; the message says why."""


def _attached(subject: Subject) -> tuple[Backbone, Method[MethodSettings]]:
    """Return the backbone on the GPU and the method on it, as a run has them; see ``Context.attach``.

    Raises :class:`SkippedError` where a run would be skipped.
    """
    backbone, method = _backbone(subject), subject.fresh()
    skip = method.supports(backbone, subject.task) or (refusal(backbone) if method.config.tread else None)
    if skip := skip or subject.guidance.supports(backbone, method):
        raise SkippedError(skip.reason)
    method.attach(backbone, subject.task, seeds.generator("init", "estimate"))
    store_frozen(backbone.transformer, subject.budget.precision)
    return backbone.to(CUDA), method


def _backbone(subject: Subject) -> Backbone:
    backbone = configured(subject.backbone, subject.resolution, subject.depths)
    backbone.set_classes([info.prompt for info in subject.task.classes()])
    return backbone


def _pixels(backbone: Backbone) -> tuple[int, int, int]:
    """Return (C, H, W) of the images."""
    shape: tuple[int, int, int] = getattr(backbone, "image_shape", None) or backbone.latent_shape
    return shape


def _batches(subject: Subject, backbone: Backbone, method: Method[MethodSettings], images: int) -> Batches:
    """Return what makes batches of ``images``, of as many groups as possible."""
    infos, split = subject.task.classes(), _split(subject, backbone, images)
    counts = np.array([info.train_count for info in infos])
    budget = subject.budget.model_copy(update={"batch_size": images})
    return Batches(
        subject.spec.model_copy(update={"budget": budget}),
        split,
        backbone,
        _Latents(backbone.latent_shape),
        lambda prompts: backbone.encode_prompts(list(prompts)),
        CUDA,
        None,  # so that every image is in the batch
        loss_weights=method.loss_weights(counts),
    )


def _split(subject: Subject, backbone: Backbone, images: int) -> Split:
    """Return black images, of as many groups as possible."""
    labels, infos = np.array(subject.mixed(images)), subject.task.classes()
    return Split(
        [str(number) for number in range(images)],
        labels,
        [infos[label].prompt for label in labels],
        lambda indices: np.zeros((len(indices), *_pixels(backbone)), np.uint8),
    )


@dataclass(frozen=True)
class _Latents:
    """Latents of images, all zero."""

    shape: tuple[int, int, int]

    def read(self, indices: np.ndarray, mirrored: np.ndarray) -> torch.Tensor:
        return torch.zeros(len(indices), *self.shape)


def _workshop(subject: Subject, sampler: Sampler) -> Workshop:
    """Return what a guidance prepares itself with; a second network has the same weights as the first."""

    def second(weights: dict[str, torch.Tensor] | None) -> Network:
        backbone, method = _backbone(subject), Method[MethodSettings](subject.method.config)
        if weights is not None:
            method = subject.fresh()
            method.attach(backbone, subject.task, seeds.generator("init", "estimate"))
        store_frozen(backbone.transformer, sampler.precision)
        sampler.place(backbone.to(CUDA))
        sampler.networks.append(Network(backbone, method, CUDA, sampler.precision))
        return sampler.networks[-1]

    return Workshop(
        subject.spec,
        subject.task,
        sampler.backbone,
        sampler.method,
        CUDA,
        sampler.embed,
        sampler.networks[0],
        data=lambda: Dataset(*[_split(subject, sampler.backbone, len(subject.task.classes()))] * 3),
        trained=lambda steps: {},
        second=second,
        progress=Progress(Console(quiet=True)),
    )
