"""Partitions that take more than the task's classes: chance, prompts, what is known of images, gradients.

All are found once, before training. Their draws come from the run's stream "partition", so that they are the same for
every method of a task and seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch

from grasp_bench.adapters.inject import unwrap
from grasp_bench.adapters.partition import Partition, cluster_count
from grasp_bench.adapters.residual import Route, RoutedAdapter, add_adapters
from grasp_bench.contracts.backbone import PromptEmbeddings
from grasp_bench.contracts.scope import scope
from grasp_bench.contracts.study import Study
from grasp_bench.contracts.task import Split
from grasp_bench.errors import UserError
from grasp_bench.memory import Portion
from grasp_bench.precision import autocast

STREAM = "partition"
MOST_VALUES = 64  # of a column: each is a cluster, with adapters of its own in every layer
RESTARTS = 10
RANK = 4  # of the adapters whose gradients are compared
BATCHES, BATCH_SIZE = 4, 16


def at_random(study: Study, count: int | None) -> Partition:
    """Classes drawn into clusters of nearly as many classes each: what a partition does that knows nothing."""
    infos = study.task.classes()
    drawn = np.random.default_rng(study.stream(STREAM, "random")).permutation(len(infos))
    members = np.empty(len(infos), np.int64)
    for number, rows in enumerate(np.array_split(drawn, cluster_count(study.task, count))):
        members[rows] = number
    return Partition.grouping(infos, members.tolist(), "random")


def by_text(study: Study, count: int | None) -> Partition:
    """Classes whose prompts are alike to the backbone: k-means of the directions of their embeddings.

    Raises :class:`UserError` for a backbone that is conditioned on class numbers, and for fewer different prompts than
    clusters.
    """
    infos, count = study.task.classes(), cluster_count(study.task, count)
    vectors = prompt_vectors(study.embed()([info.prompt for info in infos]))
    return Partition.grouping(infos, _clusters(vectors, count, study, "prompts"), "text")


def by_gradient(study: Study, count: int | None) -> Partition:
    """Classes that pull the adapters the same way when training begins: k-means of the directions of their gradients.

    See :func:`class_gradients` for what the gradients are of.
    """
    infos, count = study.task.classes(), cluster_count(study.task, count)
    return Partition.grouping(infos, _clusters(class_gradients(study), count, study, "gradients"), "gradient")


def by_metadata(study: Study, column: str) -> Partition:
    """One cluster per value of a column of what is known of the training images, such as the view of an X-ray.

    Raises :class:`UserError` where the task has no such column, or the column more than 64 values.
    """
    infos, train = study.task.classes(), study.data().train
    served, names = image_clusters(train, column)
    if len(names) > MOST_VALUES:
        raise UserError(
            f"column={column}: {len(names)} different values, such as {names[0]!r}; each would be a cluster. Choose a "
            f"column of at most {MOST_VALUES}."
        )
    counts = np.zeros((len(infos), len(names)), np.int64)
    np.add.at(counts, (train.labels, served), 1)
    classes = {info.name: int(row.argmax()) for info, row in zip(infos, counts, strict=True)}
    images = {info.name: row.tolist() for info, row in zip(infos, counts, strict=True)}
    return Partition(names, classes, images)


def image_clusters(train: Split, column: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The cluster of every training image, int64 (n,), and the clusters' names: the column's values, sorted.

    Raises :class:`UserError` where there is no such column.
    """
    if column not in train.metadata:
        there = ", ".join(train.metadata) or "none"
        raise UserError(
            f"column={column}: the task keeps no such column of its training images. Those it keeps: {there}. Choose "
            "one of them, or another partition."
        )
    names, served = np.unique(train.metadata[column].astype(str), return_inverse=True)
    return served.reshape(-1).astype(np.int64), tuple(names.tolist())


def prompt_vectors(prompts: PromptEmbeddings) -> np.ndarray:
    """(B, D): the pooled embedding, or without one the mean of the tokens that the transformer attends to."""
    tokens, mask = prompts.tokens, prompts.mask
    if not tokens.is_floating_point():
        raise UserError(
            "partition=text: this backbone is conditioned on the numbers of classes and reads no text. Choose another "
            "partition, or a backbone that reads text, such as pixart or sd3."
        )
    if prompts.pooled is not None:
        return prompts.pooled.double().numpy()
    weights = (torch.ones(tokens.shape[:2]) if mask is None else mask).double()[..., None]  # (B, T, 1)
    return ((tokens.double() * weights).sum(1) / weights.sum(1)).numpy()


def _clusters(vectors: np.ndarray, count: int, study: Study, what: str) -> list[int]:
    """The cluster of each of the vectors (n, D), of ``count``, by k-means of their directions.

    The squared distance of unit vectors is 2 - 2 cosine, so vectors of one cluster point alike.
    """
    from sklearn.cluster import KMeans

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = vectors / np.where(lengths > 0, lengths, 1)
    if (different := len(np.unique(directions.round(6), axis=0))) < count:
        raise UserError(
            f"clusters={count}: the {what} of the {len(vectors)} classes have {different} different directions. Choose "
            "at most as many clusters."
        )
    model = KMeans(count, n_init=RESTARTS, random_state=study.stream(STREAM, what) % 2**32)
    found: list[int] = model.fit_predict(directions).tolist()
    return found


def class_gradients(study: Study) -> np.ndarray:
    """The gradient of every class's training loss, float32 (classes, layers × RANK × D).

    It is that of the output projections U of one adapter gelu(x D) U beside every feed-forward layer, with U = 0 and
    one random D for all classes: what the first step of training would move, of the unchanged base model. Every class
    meets the same noise and timesteps, with 64 of its own images; a class that has fewer repeats them. They are worked
    on 16 at a time or, where memory runs out, in halves of that, which changes the sums by rounding alone; the
    transformer computes in the run's precision.
    """
    train, latents, embed = study.data().train, study.latents(), study.embed()
    objective, shape = study.backbone.objective, study.backbone.latent_shape
    noise = torch.randn(BATCHES, BATCH_SIZE, *shape, generator=_generator(study, "noise")).to(study.device)
    timesteps = objective.timesteps(BATCHES * BATCH_SIZE, _generator(study, "timesteps")).to(study.device)
    timesteps = timesteps.reshape(BATCHES, BATCH_SIZE)

    def of_part(indices: np.ndarray, number: int, ups: list[torch.nn.Parameter], rows: torch.Tensor) -> torch.Tensor:
        part = indices[rows.numpy()]
        clean = latents.read(part, np.zeros(len(part), bool)).to(study.device)
        prompts = embed([train.prompts[index] for index in part]).to(clean)
        drawn, times = noise[number, rows], timesteps[number, rows].to(clean)
        noisy, target = objective.add_noise(clean, drawn, times), objective.target(clean, drawn, times)
        route = Route.of(torch.zeros(len(part), dtype=torch.long, device=study.device))
        with scope(route), autocast(study.precision, study.device):
            prediction = study.backbone.predict(noisy, times, prompts)
            loss = (prediction.to(target) - target).square().mean() * (len(part) / BATCH_SIZE)
            # also in the scope: checkpointing runs blocks again; a layer may reach no output
            parts = torch.autograd.grad(loss, ups, materialize_grads=True)
        return torch.cat([each.flatten() for each in parts])

    portion = Portion(BATCH_SIZE, "images' gradients are taken", study.say)

    def gradient(label: int, ups: list[torch.nn.Parameter]) -> np.ndarray:
        total = torch.zeros(sum(up.numel() for up in ups), device=study.device)
        for number, indices in enumerate(_images(study, train, label)):
            for found in portion.over(torch.arange(BATCH_SIZE), partial(of_part, indices, number, ups)):
                total += found
        summed: np.ndarray = total.cpu().numpy()
        return summed

    with _adapters(study) as ups:
        return np.stack([gradient(label, ups) for label in range(len(study.task.classes()))])


@contextmanager
def _adapters(study: Study) -> Iterator[list[torch.nn.Parameter]]:
    """The output projections of the adapters that the backbone has inside the block, in the order of its layers."""
    backbone = study.backbone
    add_adapters(backbone, 1, RANK, 1.0, _generator(study, "adapters"))
    if study.checkpointing:
        backbone.enable_gradient_checkpointing()
    try:
        backbone.to(study.device)
        yield [module.up[0] for module in backbone.transformer.modules() if isinstance(module, RoutedAdapter)]
    finally:
        if study.checkpointing:
            backbone.transformer.disable_gradient_checkpointing()  # type: ignore[operator] # diffusers' models have it
        unwrap(backbone.transformer, RoutedAdapter)


def _images(study: Study, train: Split, label: int) -> np.ndarray:
    """Indices of training images of a class, (BATCHES, BATCH_SIZE), in an order of the run's own.

    A label that is no image's class, since all that have it have a rarer one, is looked at in those.
    """
    rng, found = np.random.default_rng(study.stream(STREAM, "images", label)), np.flatnonzero(train.labels == label)
    if not len(found) and train.sets is not None:
        found = np.flatnonzero(train.sets[:, label])
    return np.resize(rng.permutation(found), (BATCHES, BATCH_SIZE))


def _generator(study: Study, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(study.stream(STREAM, purpose))
