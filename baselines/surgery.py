"""Gradient surgery: gradients of head, medium and tail are put together so that none undoes another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self, TypeVar

from pydantic import Field, JsonValue, model_validator

from grasp_bench.contracts.method import Batch, MethodSettings
from grasp_bench.contracts.settings import Tuned
from grasp_bench.contracts.surgery import Surgery

from .on_top import OnTop, OnTopSettings

if TYPE_CHECKING:
    import torch

    from grasp_bench.contracts.backbone import Backbone
    from grasp_bench.contracts.task import Task, TaskSettings

COLUMNS = 2**20  # of the gradients whose products are taken in float64 at a time
ITERATIONS = 100
RATE = 2.0  # of mirror descent on a slope whose largest entry is about 1
TINY = 1e-30


class SurgerySettings(OnTopSettings):
    """Settings of gradient surgery on another method."""

    @model_validator(mode="after")
    def _one_surgery(self) -> Self:
        if isinstance(self.beneath(), GradientSurgery):
            raise ValueError(
                f"on={self.on}: a step has one gradient surgery, and {self.on} is one; choose the method that it trains"
            )
        return self


C_co = TypeVar("C_co", bound=SurgerySettings, covariant=True)


class GradientSurgery(OnTop[C_co]):
    """Groups are the task's; a subclass says by :meth:`weights` how much of each group's gradient a step has."""

    def attach(self, backbone: Backbone, task: Task[TaskSettings], generator: torch.Generator) -> None:
        import torch

        super().attach(backbone, task, generator)
        self.groups, self.group_of_class = task.groups, torch.from_numpy(task.group_indices())
        self.met, self.opposed = torch.zeros(2, len(task.groups), len(task.groups), dtype=torch.float64)
        self.steps, self.passes, self.lengths = torch.zeros(3, dtype=torch.float64)

    def surgery(self) -> Surgery:
        return Surgery(self.group_of_class, self.combine)

    def losses(self, batch: Batch, prediction: torch.Tensor) -> torch.Tensor:
        """The losses (B,) of the method beneath; a backward pass follows for every group among the samples."""
        from grasp_bench.known import on_host

        group_of = self.group_of_class.tolist()
        self.passes += len({group_of[label] for label in on_host(batch.condition.labels).tolist()})
        return super().losses(batch, prediction)

    def combine(self, gradients: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
        """The gradient (P,) of a step from those of the groups (G, P), whose sum is that of the mean loss."""
        products = gram(gradients)
        count = len(products)
        present = (products.diagonal() > 0).double()
        self.met, self.opposed = (each.to(products.device) for each in (self.met, self.opposed))
        self.met[:count, :count] += present.outer(present)
        self.opposed[:count, :count] += products < 0
        self.steps += 1
        weights = self.weights(products, stream)
        self.lengths = self.lengths + _relative_length(products, weights)
        combined = gradients.new_zeros(gradients.shape[1])
        for gradient, weight in zip(gradients, weights.to(gradients), strict=True):
            combined += weight * gradient
        return combined

    def weights(self, products: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
        """What each group's gradient is multiplied by, (G,), from their scalar products, float64 (G, G)."""
        raise NotImplementedError

    def counters(self) -> dict[str, torch.Tensor]:
        own = {name: getattr(self, name) for name in ("met", "opposed", "steps", "passes", "lengths")}
        return super().counters() | own

    def diagnostics(self) -> dict[str, JsonValue]:
        """The share of steps in which two groups' gradients conflict, and what a step is on average.

        That is a process's backward passes in a step, and the length of the step's gradient over that of the mean
        loss's.
        """
        from grasp_bench.exchange import mean

        met, opposed, names = self.met.tolist(), self.opposed.tolist(), self.groups
        conflicts: dict[str, JsonValue] = {
            f"{names[one]}, {names[other]}": opposed[one][other] / met[one][other]
            for one in range(len(names))
            for other in range(one)
            if met[one][other]
        }
        steps = max(1.0, self.steps.item())
        told: dict[str, JsonValue] = {
            "conflicts": conflicts,
            "backward_passes_per_step": mean(self.passes.to(self.met.device)).item() / steps,
            "relative_length": self.lengths.item() / steps,
        }
        for counter in (self.met, self.opposed, self.steps, self.passes, self.lengths):
            counter.zero_()
        return super().diagnostics() | told


class PcgradSettings(SurgerySettings):
    """Settings of PCGrad, which has none of its own."""


class Pcgrad(GradientSurgery[PcgradSettings]):
    """PCGrad: gradients of head, medium and tail, each without the parts that conflict with another's

    The gradient of the mean loss is the sum of the groups' shares g_i of it. Where g_i · g_j < 0, g_i loses its
    component along g_j, for every other group in an order that the step's stream draws; the step takes the sum of what
    is left. The original g_j are projected on, as published. What is removed does not depend on how long g_j is, so a
    rare group protects itself from a frequent one however few samples it has. Without a conflict, and in a step whose
    samples are all of one group, training is plain.

    Every group with samples in a step costs a backward pass, and its gradient the memory of all trainable parameters.
    The log has the share of steps in which each pair of groups conflicts.
    """

    Config: ClassVar[type[MethodSettings]] = PcgradSettings
    version = "1"
    paper = (
        "Yu et al. 2020, gradient surgery, arXiv 2001.06782, algorithm 1; groups of classes of one loss for tasks, as "
        "they occur in a batch, and the whole trainable gradient as one vector"
    )

    def weights(self, products: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
        import torch

        count = len(products)
        coefficients = torch.eye(count, dtype=products.dtype, device=products.device)  # of each projected gradient
        for own in range(count):
            for other in torch.randperm(count, generator=stream).tolist():
                if other != own:
                    along = (coefficients[own] @ products[:, other]).clamp(max=0)
                    coefficients[own, other] -= along / products[other, other].clamp(min=TINY)
        return coefficients.sum(0)


class CagradSettings(SurgerySettings):
    """Settings of CAGrad."""

    radius: Annotated[float, Tuned(0.1, 0.9)] = Field(default=0.4, ge=0, lt=1)
    """How far the step may be from the gradient of the mean loss, as a share c of its length; 0 is plain training"""


class Cagrad(GradientSurgery[CagradSettings]):
    """CAGrad: of all steps near the mean gradient, the one that improves the worst-off group most

    With g_0 the gradient of the mean loss and g_i those of the groups, scaled so that g_0 is their mean, the step is
    d = g_0 + c ‖g_0‖ g_w / ‖g_w‖, in which g_w = Σ w_i g_i and w minimises g_w · g_0 + c ‖g_0‖ ‖g_w‖ over
    non-negative weights that sum to 1. Among all d with ‖d - g_0‖ ≤ c ‖g_0‖ it has the largest min_i d · g_i.

    A group's gradient is its share of the mean loss's, so a group with few samples in a step has a short one, and is
    the worst off. Groups without samples in a step are left out of it. w is found by 100 steps of mirror
    descent on the groups' scalar products. Every group with samples in a step costs a backward pass, and its gradient
    the memory of all trainable parameters. The log has the share of steps in which each pair of groups conflicts.
    """

    Config: ClassVar[type[MethodSettings]] = CagradSettings
    version = "1"
    paper = (
        "Liu et al. 2021, CAGrad, arXiv 2110.14048, algorithm 1, with the c of its code for NYU-v2; groups of classes "
        "of one loss for tasks, as they occur in a batch. Its code divides d by 1 + c² by default, which neither the "
        "paper nor we do; it minimises with SLSQP or by gradient descent on a softmax"
    )

    def weights(self, products: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
        import torch

        present = products.diagonal() > 0
        count = present.sum().clamp(min=1)
        mean = products.sum(1)  # g_i · g_0, where g_0 is the sum of the groups' shares
        radius = self.config.radius * mean.sum().clamp(min=0).sqrt()  # c ‖g_0‖
        products, mean = products * count.square(), mean * count  # of gradients whose mean is g_0

        length = products.diagonal().max().clamp(min=TINY).sqrt()
        scale = (mean.abs().max() + radius * length).clamp(min=TINY)
        logits = torch.zeros_like(mean).masked_fill(~present, -torch.inf)
        logits = torch.where(present.any(), logits, torch.zeros_like(mean))
        for _ in range(ITERATIONS):
            weights = logits.softmax(0)
            along = products @ weights
            norm = (weights @ along).clamp(min=TINY).sqrt()
            logits = logits - RATE * (mean + radius * along / norm) / scale
        weights = logits.softmax(0)
        norm = (weights @ products @ weights).clamp(min=TINY).sqrt()
        return 1 + radius * weights * count / norm


def _relative_length(products: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """‖Σ w_i g_i‖ over ‖Σ g_i‖, by scalar products (G, G) of the g_i; 1 where all are zero."""
    whole = products.sum().clamp(min=0).sqrt()
    length = (weights @ products @ weights).clamp(min=0).sqrt()
    return (length / whole.clamp(min=TINY)).masked_fill(whole == 0, 1)


def gram(gradients: torch.Tensor) -> torch.Tensor:
    """Scalar products of gradients (G, P): float64 (G, G), whatever the precision of products is."""
    import torch

    products = gradients.new_zeros(len(gradients), len(gradients), dtype=torch.float64)
    for columns in gradients.split(COLUMNS, 1):
        products += columns.double() @ columns.double().T
    return products
