"""What one step takes, of training, sampling, encoding, decoding and classification: the harness's own, simulated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from grasp_bench import seeds
from grasp_bench.adapters.tread import routed_training
from grasp_bench.contracts.backbone import Backbone
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.downstream.networks import build
from grasp_bench.estimate.parts import CUDA, attached, batches, fresh_backbone, image_shape, presumed, workshop
from grasp_bench.estimate.simulate import SimulatedGpu
from grasp_bench.estimate.subject import Subject
from grasp_bench.finite import FiniteCheck
from grasp_bench.processes import ALONE
from grasp_bench.run.stages import pixels
from grasp_bench.run.training.backward import GroupLoss, backward
from grasp_bench.run.training.checkpoint import State
from grasp_bench.run.training.loop import update
from grasp_bench.run.training.optimizer import make_optimizer
from grasp_bench.run.training.placement import Placement, clip_gradients
from grasp_bench.sampling import Sampler


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
        """Return what ``gpu`` counted since its last reset, and reset it."""
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
        backbone = fresh_backbone(subject)
        embedded = backbone.encode_prompts([""])
        content = getattr(getattr(backbone, "saved", None), "content", {})
        return Shapes(
            image_shape(backbone),
            backbone.latent_shape,
            bool(content),
            sum(each.numel() * each.element_size() for each in embedded.tensors().values()),
            embedded.tokens.shape[1],
            sum(content.get("text_encoders", {}).values()),
        )


def study_evaluations(subject: Subject) -> int:
    """Return the network evaluations of one image that the method's study takes; raises as :func:`presumed` does."""
    with SimulatedGpu():
        return presumed(subject, fresh_backbone(subject)).evaluations


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
    """Bytes of the optimiser's state of every trainable parameter, and of its running mean where there is one."""
    batch: Taken
    """Making the batch and sending it to the GPU."""
    passes: Taken
    """The forward and backward passes; its peak lacks the optimiser's state."""
    update: Taken
    """Clipping, the check of loss and norm, and the optimiser's step."""


def training_steps(subject: Subject, sizes: Sequence[int], checkpointing: bool = False) -> list[TrainingStep]:
    """Return what first training steps of so many images take, with gradient checkpointing or without."""
    with SimulatedGpu() as gpu:
        backbone, method = attached(subject)
        backbone.transformer.train()
        if checkpointing:
            backbone.enable_gradient_checkpointing()
        groups = GroupLoss(subject.task.groups, subject.task.group_indices(), CUDA)
        placement = Placement(backbone, list(method.parameters().values()), set(), ALONE)
        return [_step(gpu, subject, backbone, method, groups, placement, images) for images in sizes]


def _step(
    gpu: SimulatedGpu,
    subject: Subject,
    backbone: Backbone,
    method: Method[MethodSettings],
    groups: GroupLoss,
    placement: Placement,
    images: int,
) -> TrainingStep:
    """Take a first step, and let go of its gradients and of the optimiser."""
    named, weights = method.parameters(), gpu.live
    parameters = list(named.values())
    optimizer = make_optimizer(subject.budget, parameters, method.config)
    made_by = batches(subject, backbone, method, images)
    with routed_training(backbone, method.config.tread) as leave_tokens_out:
        gpu.reset()
        batch = made_by.batch(0)
        made = Taken.by(gpu)
        loss = backward([batch], backbone, method, groups, subject.budget.precision, placement, leave_tokens_out)
        passes = Taken.by(gpu)
        norm = clip_gradients(parameters, subject.budget.clip_norm)
        FiniteCheck(CUDA).see(0, batch.ids, loss, norm)
        averages = {name: each.detach().clone() for name, each in named.items()} if subject.budget.ema_decay else {}
        before = gpu.live
        update(State(named, averages, optimizer), subject.budget, 0)
        state, updated = gpu.live - before, Taken.by(gpu)
    sizes = [parameter.numel() for parameter in parameters]
    reached = sum(parameter.numel() for parameter in parameters if parameter.grad is not None)
    optimizer.zero_grad()
    return TrainingStep(
        sum(sizes),
        sum(parameter.numel() for parameter in backbone.transformer.parameters()),
        weights,
        sum(parameter.numel() * parameter.element_size() for parameter in parameters),
        round(state * sum(sizes) / max(1, reached)) + sum(each.nbytes for each in averages.values()),
        made,
        passes,
        updated,
    )


@dataclass(frozen=True)
class SamplingStep:
    """Sampling some images, without decoding them."""

    weights: int
    """Bytes of the weights of the transformer, and of another that the guidance compares it with."""
    evaluations: int
    """Network evaluations, of all images and steps."""
    taken: Taken


def sampling_steps(
    subject: Subject, images: int, counts: Sequence[int] = (1,), learned: Path | None = None
) -> list[SamplingStep]:
    """Return what so many sampling steps of ``images`` take; ``learned`` is the folder that the guidance left."""
    with SimulatedGpu() as gpu:
        backbone, method = attached(subject)
        guidance = subject.guidance
        sampler = Sampler(backbone, method, guidance, CUDA, subject.spec.budget.precision)
        sampler.place(backbone)
        guidance.prepare(workshop(subject, sampler), learned)
        weights = gpu.live
        noise = torch.zeros(images, *backbone.latent_shape)
        labels, infos = subject.mixed(images), subject.task.classes()
        found = []
        for steps in counts:
            streams, before = [seeds.generator("estimate", number) for number in range(images)], sampler.evaluations
            gpu.reset()
            sampler.denoise(noise, [infos[label].prompt for label in labels], torch.tensor(labels), steps, streams)
            found.append(SamplingStep(weights, sampler.evaluations - before, Taken.by(gpu)))
        return found


@dataclass(frozen=True)
class Coding:
    """The autoencoder's work on some images."""

    weights: int
    encode: Taken
    decode: Taken


def coding(subject: Subject, images: int) -> Coding:
    """Return what encoding and decoding ``images`` takes, with the autoencoder alone on the GPU."""
    with SimulatedGpu() as gpu:
        backbone = fresh_backbone(subject)
        backbone.encode_on(CUDA)  # as a run does, without the transformer
        shape = image_shape(backbone)
        backbone.encode_images(torch.zeros(1, *shape, dtype=torch.uint8))  # loads the autoencoder
        weights = gpu.live
        gpu.reset()
        backbone.encode_images(torch.zeros(images, *shape, dtype=torch.uint8))
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
    """What a step of the recipe's batch takes."""


def classification(subject: Subject) -> Classification:
    """Return what a training step of the task's downstream classifier takes."""
    recipe = subject.plan.recipe
    with SimulatedGpu() as gpu:
        channels, side = subject.plan.backbone.image_shape[0], pixels.side(subject.plan)
        classes = len(subject.sampled.classes())
        network = build(recipe.network, channels, classes).to(CUDA).train()
        optimizer = torch.optim.AdamW(network.parameters())
        gpu.reset()
        images = torch.zeros(recipe.batch_size, channels, side, side, device=CUDA)
        torch.nn.functional.cross_entropy(network(images), torch.zeros(recipe.batch_size).long().to(CUDA)).backward()
        optimizer.step()
        return Classification(sum(each.numel() for each in network.parameters()), side, Taken.by(gpu))
