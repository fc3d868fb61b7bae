"""Merged clusters as integers of 8 bits that keep to what each cluster gives, after the idea of E-PMQ.

An adapter gives gelu(x D) U. The average of clusters has their D_k side by side and w_k U_k one below another, so each
cluster's own adapter is the average's D with another U: W_k, which is U_k in its rows and zero elsewhere. Integers Q in
the place of U are to have little of Σ_k ‖X_k (Q - W_k)‖² + λ ‖X (Q - W)‖², where W is the average's U, X_k the hidden
units at samples of cluster k, and X at all of them. With H_k = X_kᵀ X_k and H = Σ_k H_k, that is a constant and how far
Q is, by H, from W* = (H + λ H)⁻¹ (Σ_k H_k W_k + λ H W). Of D all clusters have the same: its W* is D, and its H is that
of what the layer reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.hooks import RemovableHandle

from grasp_bench import seeds
from grasp_bench.adapters.inject import on_tokens
from grasp_bench.adapters.merging import Layers, layers_of
from grasp_bench.adapters.residual import BASE_ONLY, RoutedAdapter, current_route
from grasp_bench.contracts.method import Condition
from grasp_bench.contracts.task import ClassInfo
from grasp_bench.export.pipeline import FineTunedPipeline
from grasp_bench.export.smaller import SCALE, rounded
from grasp_bench.known import known
from grasp_bench.memory import Portion
from grasp_bench.run.context import Context
from grasp_bench.run.threads import threads_taken
from grasp_bench.sampling import Network

IMAGES = 128
"""Training images of every group whose moments are taken; a group that has fewer repeats them with other noise."""
AT_ONCE = 32
ANCHOR = 1.0
"""λ: how much what the average gives counts beside what the clusters give; not searched."""
DAMPING = 0.01
"""Share of the mean of H's diagonal that is added to all of it."""

Moments = dict[tuple[str, int, int | None], torch.Tensor]
"""Layer, number of the adapter once merged, and cluster → Σ xᵀ x, float64 (n, n), of the hidden units at samples of the
cluster; for None, of what the adapter reads at all of its samples."""


def guided(pipeline: FineTunedPipeline, context: Context) -> dict[str, torch.Tensor]:
    """The weights of a run of ``merged``, merged, as int8 with a scale per row: what ``dequantized`` takes.

    ``pipeline`` has the weights before that, and is on the device of ``context`` afterwards.
    """
    state = pipeline.method.state_dict()
    before, after = layers_of(state), layers_of(pipeline.method.finished(state))
    clusters = 1 + min(map(len, before.values())) - min(map(len, after.values()))
    return by_moments(before, after, moments_of(pipeline, context, clusters), clusters)


def by_moments(
    before: Layers, after: Layers, moments: Moments, clusters: int, anchor: float = ANCHOR
) -> dict[str, torch.Tensor]:
    """Adapters ``after`` merging the first ``clusters`` of those ``before``, as integers and scales by their names.

    An adapter that is not the average is a cluster of its own.
    """
    result = dict[str, torch.Tensor]()
    for layer, adapters in after.items():
        for number, (down, up) in enumerate(adapters):
            parts = [up] if number else [own for _, own in before[layer][:clusters]]
            read = moments.get((layer, number, None), _zeros(len(down)))
            hidden = damped([moments.get((layer, number, each), _zeros(len(up))) for each in range(len(parts))])
            experts = [up.double()] if number else in_place([part.double() for part in parts])
            wanted = target(hidden, experts, up.double(), anchor)
            for side, matrix, hessian in (("down", down.double(), damped([read])), ("up", wanted, hidden)):
                name = f"{layer}.{side}.{number}"
                result[name], result[name + SCALE] = compensated(matrix, torch.stack(hessian).sum(0))
    return result


def in_place(parts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Each of the matrices (r_k, m) in its own rows of one (Σ r_k, m) that is zero elsewhere."""
    heights = [len(part) for part in parts]
    return [
        torch.cat([part if row == own else part.new_zeros(height, part.shape[1]) for row, height in enumerate(heights)])
        for own, part in enumerate(parts)
    ]


def damped(moments: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Every H_k with an equal part of what makes their sum H invertible, also where it is zero."""
    mean = sum(moment.diagonal().mean().item() for moment in moments)
    part = (DAMPING * mean or 1.0) / len(moments)
    return [moment + part * torch.eye(len(moment), dtype=torch.float64) for moment in moments]


def target(
    hessians: Sequence[torch.Tensor], experts: Sequence[torch.Tensor], merged: torch.Tensor, anchor: float
) -> torch.Tensor:
    """W* of H_k (n, n), W_k and W (n, m), written as W + (H + λ H)⁻¹ Σ_k H_k (W_k - W)."""
    pulls = [own @ (expert - merged) for own, expert in zip(hessians, experts, strict=True)]
    moved: torch.Tensor = torch.linalg.solve(torch.stack([*hessians]).sum(0), torch.stack(pulls).sum(0))
    return merged + moved / (1 + anchor)


def compensated(weight: torch.Tensor, hessian: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """int8 (n, m) and scales (n,) whose product Q is near ``weight`` W by tr((Q - W)ᵀ H (Q - W)).

    As GPTQ does (arXiv 2210.17323), one row after another is rounded, and what comes after makes up for what was lost,
    as far as H allows. A row has its scale when its turn comes. Where plain rounding is nearer, that is the result.
    """
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    factor = torch.linalg.cholesky(inverse, upper=True)
    rest, parts = weight.clone(), []
    for row in range(len(rest)):
        integers, scale = rounded(rest[row : row + 1].float())
        lost = (rest[row] - integers[0] * scale.double()) / factor[row, row]
        rest[row + 1 :] -= torch.outer(factor[row, row + 1 :], lost)
        parts.append((integers, scale))

    def distance(found: tuple[torch.Tensor, torch.Tensor]) -> float:
        off = found[0] * found[1].double()[:, None] - weight
        return float((off * (hessian @ off)).sum())

    integers, scales = (torch.cat(each) for each in zip(*parts, strict=True))
    return min((integers, scales), rounded(weight.float()), key=distance)


@torch.no_grad()
def moments_of(pipeline: FineTunedPipeline, context: Context, clusters: int) -> Moments:
    """The moments of what adapters read, the first ``clusters`` of which are to be merged, on training images.

    :data:`IMAGES` of every group, its classes in turn, are noised as in training and go through the network with their
    prompts and without, as under guidance, each routed to its own cluster. All draws are from a stream of the run's.
    """
    method, spec, device = pipeline.method, pipeline.manifest.spec, context.device
    generator = seeds.generator("export", spec.task.name, spec.seed, "moments")
    train, objective = context.data.train, pipeline.backbone.objective
    rows, served = balanced(train.labels, pipeline.manifest.classes, generator), method.training_clusters(train)
    noise = torch.randn(len(rows), *pipeline.backbone.latent_shape, generator=generator)
    timesteps = objective.timesteps(len(rows), generator)
    pipeline.to(device)
    network = Network(pipeline.backbone, method, device, spec.budget.precision)

    def of_part(numbers: range) -> Moments:
        part, own, found = rows[numbers.start : numbers.stop], slice(numbers.start, numbers.stop), Moments()
        clean = context.latents.read(part, np.zeros(len(part), bool)).to(device)
        t = known(timesteps[own].to(clean.dtype), device)
        noisy, routes = objective.add_noise(clean, noise[own].to(clean), t), None if served is None else served[part]
        for dropped in (False, True):
            texts = [""] * len(part) if dropped else [train.prompts[row] for row in part]
            condition = Condition(
                known(torch.from_numpy(train.labels[part]), device),
                known(torch.full((len(part),), dropped), device),
                context.embed(texts).to(clean),
                t,
                None if routes is None else known(torch.from_numpy(routes), device),
            )
            with _noted(pipeline.transformer, clusters, found):
                network(noisy, condition)
        advance(len(part))
        return found

    total = Moments()
    portion = Portion(AT_ONCE, "images' moments are taken", context.progress.say)
    with threads_taken(None, context.plan.threads), context.progress.task("moments", len(rows)) as advance:
        for found in portion.over(range(len(rows)), of_part):
            for key, moment in found.items():
                total[key] = total[key] + moment if key in total else moment
    return total


def balanced(labels: np.ndarray, classes: Sequence[ClassInfo], generator: torch.Generator) -> np.ndarray:
    """Rows of as many images of every group, of its classes in turn, which repeat their images in an order drawn."""
    chosen = list[int]()
    for group in dict.fromkeys(info.group for info in classes):
        there = [np.flatnonzero(labels == label) for label, info in enumerate(classes) if info.group == group]
        orders = [rows[torch.randperm(len(rows), generator=generator).numpy()] for rows in there if len(rows)]
        for number in range(IMAGES if orders else 0):
            turn, of_class = divmod(number, len(orders))
            chosen.append(int(orders[of_class][turn % len(orders[of_class])]))
    return np.array(chosen)


@contextmanager
def _noted(transformer: torch.nn.Module, clusters: int, found: Moments) -> Iterator[None]:
    """Add to ``found`` the moments of what every adapter reads in the forward pass inside the block."""

    def hook(layer: str, module: RoutedAdapter) -> RemovableHandle:
        def seen(states: torch.Tensor) -> torch.Tensor:
            route = current_route(len(states))
            for cluster, start, stop in route.segments:
                if cluster != BASE_ONLY:
                    tokens = states[route.order[start:stop]].flatten(0, 1)
                    _add(found, layer, module, cluster, clusters, tokens)
            return states

        def before(_: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
            on_tokens(seen, arguments[0], module.channels_first)

        return module.register_forward_pre_hook(before)

    handles = [hook(name, each) for name, each in transformer.named_modules() if isinstance(each, RoutedAdapter)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _add(found: Moments, layer: str, module: RoutedAdapter, cluster: int, clusters: int, tokens: torch.Tensor) -> None:
    """Add the moments of tokens (n, I) of samples of a cluster, and of all hidden units that they will meet."""
    merges = cluster < clusters
    downs = [module.down[each] for each in (range(clusters) if merges else [cluster])]
    hidden = module.activation(tokens @ torch.cat(downs, 1))
    number, own = (0, cluster) if merges else (cluster - clusters + 1, 0)
    for key, read in (((layer, number, None), tokens), ((layer, number, own), hidden)):
        moment = (read.double().T @ read.double()).cpu()  # double precision is what autocast leaves alone
        found[key] = found[key] + moment if key in found else moment


def _zeros(size: int) -> torch.Tensor:
    return torch.zeros(size, size, dtype=torch.float64)
