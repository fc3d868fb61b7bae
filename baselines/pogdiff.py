"""PoGDiff: the target is a product of two Gaussians, the sample's own and one under a neighbouring prompt."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from grasp_bench.contracts.method import Batch, MethodSettings
from grasp_bench.contracts.settings import Tuned
from grasp_bench.errors import Skip

from .on_top import OnTop, OnTopSettings, squared_distance

if TYPE_CHECKING:
    import torch

    from grasp_bench.contracts.backbone import Backbone, PromptEmbeddings
    from grasp_bench.contracts.task import Task, TaskSettings


class PogdiffSettings(OnTopSettings):
    """Settings of PoGDiff."""

    neighbour_weight: Annotated[float, Tuned(0.1, 10, log=True)] = Field(default=1.0, ge=0)
    """Precision of the neighbour's Gaussian relative to the sample's own, for a rare class and equal prompts"""
    neighbours: int = Field(default=3, ge=1, le=64)
    """Classes of the most similar prompts among which a sample's neighbour is drawn in every step"""


class Pogdiff(OnTop[PogdiffSettings]):
    """PoGDiff: rare classes learn from their own images and from what the model predicts under similar prompts

    The loss of a sample of class y is (1 + w) ‖v(y) - m‖², which is, but for a factor, the divergence of the Gaussian
    around v(y) from the product of two: one around its target with precision 1, one around sg v(y') with precision w,
    so that m = (target + w sg v(y')) / (1 + w) and 1 + w is the precision; sg stops the gradient, and the norm is the
    mean over elements. y' is drawn in every step among the ``neighbours`` classes of the most similar prompts, each as
    often. w = ``neighbour_weight`` · (1 - n_y / max n) · s(y, y'), with n the numbers of training images and s the
    cosine of the prompts' embeddings, at least 0. It is 0 for the most frequent class and for a sample whose prompt is
    dropped. y' lends its prompt only: adapters are those of y. A method beneath with a loss of its own keeps it, and
    gains what the second Gaussian adds to the squared error.

    **At other sizes of latents.** w is of counts and prompts alone, and both terms are means over elements, so nothing
    in the loss grows or fades with the latents: for n elements the gradient with respect to v(y) is
    2 (v(y) - target) / n of the squared error and 2 w (v(y) - v(y')) / n of what is added. But a mean over more
    elements differs less between samples: 16×64×64 has 1,024 times those of 1×8×8. How far apart the predictions under
    neighbouring prompts are there was not measured.
    """

    Config: ClassVar[type[MethodSettings]] = PogdiffSettings
    version = "1"
    paper = (
        "after Wang et al. 2025, PoGDiff, arXiv 2502.08106, of which we know the abstract: the product of the sample's "
        "Gaussian and of the prediction under a neighbouring prompt is the paper's; how the weight grows with rarity "
        "and similarity, which classes are neighbours, the stopped gradient and the model in training as the one that "
        "predicts are our own choices"
    )

    def supports(self, backbone: Backbone, task: Task[TaskSettings]) -> Skip | None:
        if len(task.classes()) < 2:
            return Skip("neighbours are other classes, but the task has one class")
        return super().supports(backbone, task)

    def attach(self, backbone: Backbone, task: Task[TaskSettings], generator: torch.Generator) -> None:
        super().attach(backbone, task, generator)
        self.similarities: torch.Tensor | None = None

    def losses(self, batch: Batch, prediction: torch.Tensor) -> torch.Tensor:
        import torch

        from grasp_bench.known import known, on_host

        own = super().losses(batch, prediction)
        if self.config.neighbour_weight == 0:
            return own
        labels, drawn = on_host(batch.condition.labels), batch.draw(lambda n, stream: torch.rand(n, generator=stream))
        if self.similarities is None:
            self.similarities = similarities(self.embed(batch, self.prompts).to(torch.zeros(1)))
        near = nearest(self.similarities, self.config.neighbours)
        neighbours = near[labels, (on_host(drawn) * near.shape[1]).long()]
        rarity = 1 - self.counts.double() / self.counts.max()
        closeness = self.similarities[labels, neighbours].clamp(min=0)
        weights = self.config.neighbour_weight * rarity[labels] * closeness
        weights = known(weights.masked_fill(on_host(batch.condition.dropped), 0).to(own.dtype), own.device)
        prompts = self.embed(batch, [self.prompts[label] for label in neighbours.tolist()])
        with torch.no_grad():
            theirs = self.predict(batch, replace(batch.condition, prompts=prompts))
        mean, precision = product(batch.target, theirs, weights)
        # the loss of the method beneath, and what the second Gaussian adds to the squared error
        return own + precision * squared_distance(prediction, mean) - squared_distance(prediction, batch.target)


def product(own: torch.Tensor, other: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (B, ...) and precision (B,) of the normalised product of Gaussians of precisions 1 and ``weights`` (B,)."""
    precision = 1 + weights
    share = (weights / precision).reshape(-1, *[1] * (own.ndim - 1))
    return own + share * (other - own), precision


def similarities(prompts: PromptEmbeddings) -> torch.Tensor:
    """Cosines (C, C) of the embeddings of C prompts, float64 on the CPU; classes without text are all alike.

    They are those of the pooled embeddings or, without these, of the mean of the tokens that are attended to.
    """
    import torch

    from grasp_bench.adapters.clustering import prompt_vectors

    if not prompts.tokens.is_floating_point():
        return torch.ones(len(prompts.tokens), len(prompts.tokens), dtype=torch.float64)
    vectors = torch.nn.functional.normalize(torch.from_numpy(prompt_vectors(prompts)), dim=1)
    return vectors @ vectors.T


def nearest(similarities: torch.Tensor, count: int) -> torch.Tensor:
    """Classes of the most similar prompts, most similar first, int64 (C, n) with n = ``count``, or C - 1 if less."""
    others = similarities.clone().fill_diagonal_(-2)  # below every cosine
    return others.argsort(dim=1, descending=True, stable=True)[:, : min(count, len(others) - 1)]
