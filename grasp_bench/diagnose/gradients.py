"""Gradients of every class by kind of layer, on the same noise at the same noise levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from grasp_bench import seeds
from grasp_bench.contracts.backbone import Backbone, PromptEmbeddings
from grasp_bench.contracts.method import Condition
from grasp_bench.contracts.progress import Advance
from grasp_bench.contracts.study import LatentSource
from grasp_bench.contracts.task import ClassInfo, Split
from grasp_bench.errors import UserError
from grasp_bench.sampling import Network

LEVELS = ((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))
"""Ranges of the timestep, which is 0 at the data and 1 at the noise."""
NOISES = 8
"""Draws of noise per gradient, which is their mean; their timesteps are spread evenly over the range."""
FEWEST_BATCHES = 4
MOST_CLASSES = 100
WIDTH = 4096
"""Length that longer gradients are projected to; see :class:`Sketch`."""
ATTENTION, FEED_FORWARD, MODULATION, EMBEDDINGS = "attention", "feed-forward", "modulation", "embeddings"
OTHER = "other"
ADAPTER = " adapter"
"""Suffix of the kind of parameters that a method added."""


@dataclass(frozen=True)
class Draws:
    """The images whose gradients are measured."""

    classes: np.ndarray
    """Indices of the classes (C,)."""
    images: np.ndarray
    """Indices of training images (B, C), each in one batch only."""


@dataclass(frozen=True)
class Gradients:
    """Gradients by kind of layer; kinds that the loss does not depend on are left out."""

    values: dict[str, np.ndarray]
    """float32 (levels, B, C, D), where D is the number of parameters or the width of a sketch."""
    apart: dict[str, np.ndarray]
    """bool (C, C), True for classes that share no parameter, such as those served by adapters of different clusters."""
    sizes: dict[str, int]
    """Number of parameters of the kind."""
    losses: np.ndarray
    """Mean squared error of each image (levels, B, C)."""


def draw(train: Split, infos: Sequence[ClassInfo], asked: int, seed: int) -> Draws:
    """Draw equally many images of every class, one per batch: ``asked`` batches, or as many as the rarest class allows.

    Classes with fewer than 4 images are left out; of more than 100 classes, 100 are drawn evenly from the groups.
    Raises :class:`UserError` if fewer than two classes are left.
    """
    counts = np.bincount(train.labels, minlength=len(infos))
    enough = [index for index in range(len(infos)) if counts[index] >= FEWEST_BATCHES]
    if len(enough) < 2:
        raise UserError(
            f"{len(enough)} classes have at least {FEWEST_BATCHES} training images, which a comparison of gradients "
            "needs; expected two or more. Choose a task with more images per class."
        )
    classes = _evenly([infos[index].group for index in enough], np.array(enough), seeds.rng("diagnose-classes", seed))
    batches = min(asked, int(counts[classes].min()))
    images = [
        seeds.rng("diagnose-images", seed, int(index)).permutation(np.flatnonzero(train.labels == index))[:batches]
        for index in classes
    ]
    return Draws(classes, np.stack(images, 1))


def _evenly(groups: list[str], classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return at most ``MOST_CLASSES`` of the classes, in their order, from each group as equally as possible."""
    if len(classes) <= MOST_CLASSES:
        return classes
    turns = np.empty(len(classes), np.int64)
    for group in dict.fromkeys(groups):
        rows = [row for row, of in enumerate(groups) if of == group]
        turns[rng.permutation(rows)] = np.arange(len(rows))
    return np.sort(classes[np.argsort(turns, kind="stable")[:MOST_CLASSES]])


def measure(
    network: Network,
    parameters: dict[str, nn.Parameter],
    added: set[nn.Parameter],
    train: Split,
    latents: LatentSource,
    embed: Callable[[Sequence[str]], PromptEmbeddings],
    draws: Draws,
    seed: int,
    advance: Advance,
) -> Gradients:
    """Measure gradients of the objective's mean squared error alone, without a method's own terms and weights.

    Each gradient is that of one image, over :data:`NOISES` draws of noise, with its prompt and, if the method routes,
    its cluster. Noise and timesteps are the same for all classes of a batch. ``advance`` is called with the number of
    gradients done.
    """
    backbone, names = network.backbone, layer_kinds(network.backbone, parameters, added)
    tensors = list(parameters.values())
    place = {name: number for number, name in enumerate(parameters)}
    rows = {kind: [place[name] for name in each] for kind, each in names.items()}
    sizes = {kind: [tensors[row].numel() for row in each] for kind, each in rows.items()}
    sketches = {kind: Sketch(each, kind, seed, network.device) for kind, each in sizes.items()}
    shape = (len(LEVELS), *draws.images.shape)
    values = {kind: np.zeros((*shape, sketch.width), np.float32) for kind, sketch in sketches.items()}
    touched = np.zeros((len(draws.classes), len(tensors)), bool)
    losses = np.zeros(shape)
    clusters = network.method.training_clusters(train)

    for batch, images in enumerate(draws.images):
        for column, image in enumerate(images):
            clean = latents.read(np.array([image]), np.zeros(1, bool)).to(network.device)
            condition = _condition(train, int(image), embed, clusters, clean)
            for level in range(len(LEVELS)):
                generator = seeds.generator("diagnose-noise", seed, batch, level)
                noise = torch.randn(NOISES, *backbone.latent_shape, generator=generator).to(clean)
                times = torch.tensor(timesteps(level)).to(clean)
                loss = _loss(network, clean, noise, replace(condition, timesteps=times))
                found = torch.autograd.grad(loss, tensors, allow_unused=True)
                losses[level, batch, column] = loss.item()
                touched[column] |= [each is not None and bool(each.any()) for each in found]
                for kind, sketch in sketches.items():
                    values[kind][level, batch, column] = sketch([found[row] for row in rows[kind]]).cpu().numpy()
            advance(len(LEVELS))
    meet = {kind: touched[:, each].astype(np.int64) for kind, each in rows.items() if touched[:, each].any()}
    apart = {kind: each @ each.T == 0 for kind, each in meet.items()}
    reached = {kind: values[kind] for kind in meet}
    return Gradients(reached, apart, {kind: sum(sizes[kind]) for kind in meet}, losses)


def timesteps(level: int) -> np.ndarray:
    """Return the timesteps of a range, float32 (NOISES,): the midpoints of equal parts."""
    low, high = LEVELS[level]
    grid: np.ndarray = low + (high - low) * (np.arange(NOISES, dtype=np.float32) + 0.5) / NOISES
    return grid


def _condition(
    train: Split,
    image: int,
    embed: Callable[[Sequence[str]], PromptEmbeddings],
    clusters: np.ndarray | None,
    like: torch.Tensor,
) -> Condition:
    """Return the condition of one image, NOISES times, at timestep 0."""
    zeros = torch.zeros(NOISES, dtype=torch.long, device=like.device)
    return Condition(
        labels=zeros + int(train.labels[image]),
        dropped=zeros.bool(),
        prompts=embed([train.prompts[image]] * NOISES).to(like),
        timesteps=zeros.to(like),
        clusters=None if clusters is None else zeros + int(clusters[image]),
    )


def _loss(network: Network, clean: torch.Tensor, noise: torch.Tensor, condition: Condition) -> torch.Tensor:
    """Return the mean squared error of an image (1, ...) under noise (NOISES, ...)."""
    objective, latents = network.backbone.objective, clean.expand_as(noise)
    noisy = objective.add_noise(latents, noise, condition.timesteps)
    target = objective.target(latents, noise, condition.timesteps)
    return (network(noisy, condition) - target).square().mean()


def layer_kinds(
    backbone: Backbone, parameters: dict[str, nn.Parameter], added: set[nn.Parameter]
) -> dict[str, list[str]]:
    """Return kind → names of ``parameters``, by the layer that they belong to.

    "modulation" covers norms and the scale, shift and gate of their output; "embeddings" covers the layers that turn
    latents, prompts and timesteps into tokens, and tokens back into latents. Parameters that a method ``added`` have
    kinds of their own, such as "attention adapter". "other" covers parameters outside the transformer and in unknown
    layers.
    """
    feed_forwards = [name.removesuffix(".base_layer") for name in backbone.feed_forwards()]
    places = {id(parameter): name for name, parameter in backbone.transformer.named_parameters()}
    found: dict[str, list[str]] = {}
    for name, parameter in parameters.items():
        place = places.get(id(parameter))
        kind = OTHER if place is None else _kind(backbone.transformer, place, feed_forwards)
        found.setdefault(kind + (ADAPTER if parameter in added else ""), []).append(name)
    return dict(sorted(found.items()))


def _kind(transformer: nn.Module, place: str, feed_forwards: list[str]) -> str:
    """Return the kind by the modules that enclose the parameter, the outermost first, then by its name."""
    if any(place.startswith(f"{prefix}.") for prefix in feed_forwards) or ".proj_mlp." in place:
        return FEED_FORWARD
    parts = place.split(".")
    modules = [transformer.get_submodule(".".join(parts[: depth + 1])) for depth in range(len(parts) - 1)]
    for kind, part in zip([*(type(module).__name__ for module in modules), ""], parts, strict=True):
        if "Norm" in kind or "norm" in part or "adaln" in part or "scale_shift_table" in part:
            return MODULATION
        if "Attention" in kind or "attn" in part:
            return ATTENTION
        if "embed" in part or "Embed" in kind or "proj_in" in part or part == "caption_projection":
            return EMBEDDINGS
    if ".proj_out." in place:  # FLUX.1's single blocks project attention and feed-forward together
        return FEED_FORWARD
    return EMBEDDINGS if place.startswith("proj_out") else OTHER


class Sketch:
    """A count sketch: every number is added, with a sign, to one of ``width`` sums; both are drawn once.

    E⟨Sx, Sy⟩ = ⟨x, y⟩ with variance at most (|x|² |y|² + ⟨x, y⟩²) / width (Weinberger et al. 2009, arXiv 0902.2206,
    lemma 2), so a cosine near 0 errs by about width^-1/2, 0.016 at 4,096. It takes two bytes of memory per number.
    Vectors that are no longer than ``width`` are kept unchanged.
    """

    def __init__(self, sizes: Sequence[int], name: str, seed: int, device: torch.device, width: int = WIDTH) -> None:
        """Draw the sums and signs for tensors of ``sizes``, keyed by ``name`` and ``seed``."""
        self.sizes, self.device = list(sizes), device
        self.exact = sum(sizes) <= width
        self.width = sum(sizes) if self.exact else width
        if not self.exact:
            generator = seeds.generator("sketch", name, seed)
            # index of the sum; the upper half of the range stands for a minus sign
            self.codes = [
                torch.randint(2 * width, (size,), generator=generator, dtype=torch.int16).to(device) for size in sizes
            ]

    def __call__(self, tensors: Sequence[torch.Tensor | None]) -> torch.Tensor:
        """Return the sketch, float64 (width,), of the concatenated ``tensors``; None stands for zeros."""
        if self.exact:
            parts = [
                torch.zeros(size, device=self.device) if tensor is None else tensor.flatten()
                for size, tensor in zip(self.sizes, tensors, strict=True)
            ]
            return torch.cat(parts).double()
        sums = torch.zeros(2 * self.width, dtype=torch.float64, device=self.device)
        for codes, tensor in zip(self.codes, tensors, strict=True):
            if tensor is not None:
                sums.index_add_(0, codes.long(), tensor.flatten().double())
        return sums[: self.width] - sums[self.width :]
