"""Guidance by attributes: images of rare classes vary as those of frequent ones do, by moves of their prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from grasp_bench.contracts.guidance import Guidance, Model, SamplingStep
from grasp_bench.contracts.settings import Settings, Tuned
from grasp_bench.errors import Skip
from grasp_bench.guidances.cfg import base_prediction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    import torch

    from grasp_bench.contracts.backbone import Backbone, PromptEmbeddings
    from grasp_bench.contracts.guidance import Workshop
    from grasp_bench.contracts.method import Method, MethodSettings

DIRECTIONS = "directions.safetensors"
REPORT = "directions.json"
AT_ONCE = 32
SHIFT = "shift"


class AttributeSettings(Settings):
    """Settings of borrowed attributes."""

    guidance_scale: Annotated[float, Tuned(0.9, 3, log=True)] = Field(default=2.0, ge=0, le=100)
    """w in u + w (c - u), where c is under the moved prompt: 1 leaves out u (one NFE per step less)"""
    strength: Annotated[float, Tuned(0.1, 3, log=True)] = Field(default=0.5, ge=0, le=100)
    """Size of a rare class's moves, relative to how far the prompts of classes lie from their mean; 0: none"""
    directions: int = Field(default=4, ge=1, le=256)
    """Directions that are kept, of the largest variation"""
    images: int = Field(default=64, ge=2, le=100_000)
    """Training images of each frequent class, at most, whose variation is looked at"""
    noises: int = Field(default=4, ge=1, le=1000)
    """Draws of noise and timestep for each of these images"""


class AttributeGuidance(Guidance[AttributeSettings]):
    """Borrowed attributes: prompts of rare classes are moved at random along what images of frequent classes vary in

    For every training image of the most frequent group, the gradient of the fine-tuned network's squared error with
    respect to an offset d of all tokens of its prompt says how the prompt would have to move to explain that very
    image: it is the first step of a textual inversion of it. What is left of these moves without the mean of their
    class is how images vary within a class; its largest principal directions D_k, of unit length and with singular
    values σ_k, are kept. An image of class y is sampled under its prompt moved by

        m √(Σ σ_k²)⁻¹ Σ z_k σ_k D_k,    m = strength · (1 - n_y / max n) · (how far classes' prompts lie apart),

    with z_k drawn once for each image from a standard normal distribution, so that the rarer a class, the more it
    varies, and the most frequent one stays as it is. Pooled embeddings are not moved. Guidance is classifier-free
    otherwise, at its cost.
    """

    Config: ClassVar[type[Settings]] = AttributeSettings
    classifier_free = True
    learns = True
    version = "1"
    paper = (
        "after Baumann et al. 2024, Continuous, Subject-Specific Attribute Control in T2I Models by Identifying "
        "Semantic Directions, arXiv 2403.17064, which has directions of named attributes from pairs of prompts, at the "
        "tokens of a noun. Our own: directions from the variation of training images, without names, at all tokens "
        "alike; that rare classes borrow them; and their strength"
    )

    @property
    def evaluations_per_step(self) -> int:
        return 1 if self.config.guidance_scale == 1 else 2

    def supports(self, backbone: Backbone, method: Method[MethodSettings]) -> Skip | None:
        from grasp_bench.adapters.prompts import token_width

        if token_width(backbone) is None:
            return Skip("the transformer reads the class itself, and no tokens of a prompt that could be moved")
        return None

    def learn(self, workshop: Workshop, folder: Path) -> None:
        import torch

        from grasp_bench.io import write_json, write_tensors

        moves, labels = [], []
        train, infos = workshop.data().train, workshop.task.classes()
        frequent = max(infos, key=lambda info: info.train_count).group
        chosen = [at for at, info in enumerate(infos) if info.group == frequent]
        rows = list(self._rows(train.labels, chosen, workshop.generator("attribute", "images")))
        with workshop.progress.task("directions of prompts", len(rows)) as advance:
            for start in range(0, len(rows), AT_ONCE):
                part = rows[start : start + AT_ONCE]
                pixels = torch.from_numpy(train.read(_array(part)))
                latents = workshop.backbone.encode_images(pixels.to(workshop.device)).to(workshop.dtype)
                own = torch.from_numpy(train.labels[_array(part)])
                prompts = workshop.embed([train.prompts[row] for row in part]).to(latents)
                moves.append(self._moves(workshop, latents, own, prompts, part).double().cpu())
                labels.append(own)
                advance(len(part))
        directions, values, share = principal(torch.cat(moves), torch.cat(labels), self.config.directions)
        write_tensors(folder / DIRECTIONS, {"directions": directions, "values": values})
        write_json(folder / REPORT, {"group": frequent, "images": len(rows), "share_of_variance": share})

    def _rows(self, labels: np.ndarray, classes: list[int], generator: torch.Generator) -> Iterator[int]:
        """Numbers of as many images of each of ``classes`` as are looked at, drawn without replacement."""
        import numpy as np
        import torch

        for label in classes:
            found = np.flatnonzero(labels == label)
            order = torch.randperm(len(found), generator=generator)[: self.config.images]
            yield from sorted(found[order.numpy()].tolist())

    def _moves(
        self,
        workshop: Workshop,
        latents: torch.Tensor,
        labels: torch.Tensor,
        prompts: PromptEmbeddings,
        rows: list[int],
    ) -> torch.Tensor:
        """Minus the gradient of each image's error with respect to an offset of its prompt's tokens: (B, D)."""
        import torch

        from grasp_bench.contracts.method import Condition
        from grasp_bench.known import known

        objective, device = workshop.backbone.objective, workshop.device
        offset = latents.new_zeros(len(rows), prompts.tokens.shape[2])
        total = torch.zeros_like(offset)
        streams = [workshop.generator("attribute", "noise", row) for row in rows]
        for _ in range(self.config.noises):
            noise = torch.stack([torch.randn(latents.shape[1:], generator=stream) for stream in streams]).to(latents)
            t = torch.cat([objective.timesteps(1, stream) for stream in streams]).to(latents.dtype)
            noisy, target = objective.add_noise(latents, noise, t), objective.target(latents, noise, t)
            with torch.enable_grad():
                leaf = offset.clone().requires_grad_()
                condition = Condition(
                    known(labels, device),
                    known(torch.zeros(len(rows), dtype=torch.bool), device),
                    moved(prompts, leaf),
                    known(t, device),
                )
                error = (workshop.network(noisy, condition) - target).square().flatten(1).mean(1)
                (gradient,) = torch.autograd.grad(error.sum(), leaf)
            total -= gradient / self.config.noises
        return total

    def prepare(self, workshop: Workshop, folder: Path | None) -> None:
        import torch

        from grasp_bench.io import read_tensors

        assert folder is not None  # it learns
        found = read_tensors(folder / DIRECTIONS)
        infos = workshop.task.classes()
        counts = torch.tensor([info.train_count for info in infos], dtype=torch.float64)
        means = workshop.embed([info.prompt for info in infos]).tokens.double().mean(1)  # (classes, D)
        apart = (means - means.mean(0)).square().sum(1).mean().sqrt()
        self.basis = found["directions"] * (found["values"] / found["values"].square().sum().sqrt())[:, None]
        self.sizes = self.config.strength * apart * (1 - counts / counts.max())  # (classes,)

    def predict(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> torch.Tensor:
        if self.config.strength > 0:
            if SHIFT not in step.memory:
                step.memory[SHIFT] = self._shift(model.labels, step.generators, latents)
            model = model.of_classes(model.labels, moved(model.prompts, step.memory[SHIFT]))
        return base_prediction(model, latents, step.timesteps, self.config.guidance_scale)[1]

    def _shift(self, labels: torch.Tensor, generators: list[torch.Generator], like: torch.Tensor) -> torch.Tensor:
        """Each image's move of its prompt, (B, D), beside ``like``."""
        import torch

        from grasp_bench.known import on_host
        from grasp_bench.processes import sent

        drawn = [torch.randn(len(self.basis), generator=generator, dtype=torch.float64) for generator in generators]
        shift = self.sizes[on_host(labels)][:, None] * (torch.stack(drawn) @ self.basis.double())
        return sent(shift.to(like.dtype), like.device)


def moved(prompts: PromptEmbeddings, offset: torch.Tensor) -> PromptEmbeddings:
    """Prompts (B) with each one's offset (B, D) added to all of its tokens."""
    from dataclasses import replace

    return replace(prompts, tokens=prompts.tokens + offset[:, None].to(prompts.tokens.dtype))


def principal(moves: torch.Tensor, labels: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Directions (k, D), singular values (k,) and share of variance of moves (n, D) within their classes (n,).

    k is ``count``, or the rank of the moves where that is less.
    """
    import torch

    within = moves.clone()
    for label in labels.unique():
        within[labels == label] -= moves[labels == label].mean(0)
    _, values, directions = torch.linalg.svd(within, full_matrices=False)
    kept = max(1, min(count, int((values > 1e-9 * values[0]).sum())))
    share = values[:kept].square().sum() / values.square().sum().clamp_min(1e-300)
    return directions[:kept].contiguous(), values[:kept].contiguous(), share.item()


def _array(rows: list[int]) -> np.ndarray:
    import numpy as np

    return np.array(rows)
