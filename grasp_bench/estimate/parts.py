"""What a step works with, on the simulated GPU: backbone, method, batches and workshop as a run has them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console

from grasp_bench import seeds
from grasp_bench.contracts.backbone import Backbone
from grasp_bench.contracts.guidance import Workshop
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.study import Presumed
from grasp_bench.contracts.task import Dataset, Split
from grasp_bench.estimate.configured import configured
from grasp_bench.estimate.errors import NotEstimatedError, SkippedError
from grasp_bench.estimate.subject import Subject
from grasp_bench.precision import store_frozen
from grasp_bench.run.applies import why_not
from grasp_bench.run.training.batches import Batches
from grasp_bench.sampling import Network, Sampler

CUDA = torch.device("cuda")


def attached(subject: Subject, device: torch.device = CUDA) -> tuple[Backbone, Method[MethodSettings]]:
    """Return the backbone on a device and the method on it, as a run has them; see ``Context.attach``.

    Raises :class:`SkippedError` where a run would be skipped.
    """
    backbone = fresh_backbone(subject)
    method = fresh_method(subject, backbone)
    if skip := why_not(backbone, subject.task, method, subject.guidance):
        raise SkippedError(skip.reason)
    method.detachable = False
    method.attach(backbone, subject.task, seeds.generator("init", "estimate"))
    store_frozen(backbone.transformer, subject.budget.precision)
    return backbone.to(device), method


def fresh_backbone(subject: Subject) -> Backbone:
    """Return the subject's backbone on the host; it knows the classes."""
    backbone = configured(subject.backbone, subject.resolution, subject.depths)
    backbone.set_classes([info.prompt for info in subject.task.classes()])
    return backbone


def fresh_method(subject: Subject, backbone: Backbone) -> Method[MethodSettings]:
    """Return the method, not attached yet, with what is presumed of its study; raises as :func:`presumed` does."""
    method = subject.fresh()
    method.studied = presumed(subject, backbone).found
    return method


def presumed(subject: Subject, backbone: Backbone) -> Presumed:
    """Return what is presumed of the method's study, which of one that has none is nothing.

    Raises :class:`SkippedError` where the method does not apply, and :class:`NotEstimatedError` where only the data or
    the weights can tell.
    """
    method = subject.method
    if skip := method.supports(backbone, subject.task):
        raise SkippedError(skip.reason)
    found = method.presumed(backbone, subject.task) if method.studies else Presumed({})
    if found is None:
        raise NotEstimatedError(
            f"method {subject.spec.method.name}, settings {method.config.changed()}: it looks at the task's images or "
            "prompts before it is attached, and what it finds is not known to an estimate. Estimate settings under "
            "which it does not look, such as partition=group for another partition: a step takes about as much."
        )
    return found


def image_shape(backbone: Backbone) -> tuple[int, int, int]:
    """Return (C, H, W) of the images."""
    shape: tuple[int, int, int] = getattr(backbone, "image_shape", None) or backbone.latent_shape
    return shape


def batches(
    subject: Subject, backbone: Backbone, method: Method[MethodSettings], images: int, device: torch.device = CUDA
) -> Batches:
    """Return what makes batches of ``images``, of as many groups as possible."""
    infos, split = subject.task.classes(), black_images(subject, backbone, images)
    counts = np.array([info.train_count for info in infos])
    budget = subject.budget.model_copy(update={"batch_size": images})
    return Batches(
        subject.spec.model_copy(update={"budget": budget}),
        split,
        backbone,
        Black(backbone.latent_shape),
        lambda prompts: backbone.encode_prompts(list(prompts)),
        device,
        None,  # so that every image is in the batch
        loss_weights=method.loss_weights(counts),
    )


def black_images(subject: Subject, backbone: Backbone, images: int) -> Split:
    """Return black images, of as many groups as possible."""
    labels, infos = np.array(subject.mixed(images)), subject.task.classes()
    return Split(
        [str(number) for number in range(images)],
        labels,
        [infos[label].prompt for label in labels],
        lambda indices: np.zeros((len(indices), *image_shape(backbone)), np.uint8),
    )


@dataclass(frozen=True)
class Black:
    """Latents of images, all zero."""

    shape: tuple[int, int, int]

    def read(self, indices: np.ndarray, mirrored: np.ndarray) -> torch.Tensor:
        return torch.zeros(len(indices), *self.shape)


def workshop(subject: Subject, sampler: Sampler) -> Workshop:
    """Return what a guidance prepares itself with; a second network has the same weights as the first."""

    def second(weights: dict[str, torch.Tensor] | None) -> Network:
        backbone, method = fresh_backbone(subject), Method[MethodSettings](subject.method.config)
        if weights is not None:
            method = fresh_method(subject, backbone)
            method.detachable = False
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
        data=lambda: Dataset(*[black_images(subject, sampler.backbone, len(subject.task.classes()))] * 3),
        trained=lambda steps: {},
        second=second,
        progress=Progress(Console(quiet=True)),
    )
