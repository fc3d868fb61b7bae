"""GRASP's clusters averaged into one adapter after training."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar, Literal

from grasp_bench.contracts.method import Condition, MethodSettings

from .grasp import Grasp, GraspSettings

if TYPE_CHECKING:
    import torch

    from grasp_bench.contracts.backbone import Backbone
    from grasp_bench.contracts.task import Task, TaskSettings


class MergedSettings(GraspSettings):
    """Settings of GRASP with its clusters merged."""

    merge: Literal["mean", "counts", "similarity"] = "mean"
    """Weights of the clusters in the average: equal, by training images, or by how alike a cluster's update is to the
    mean of all: the cosine of D U in all layers together, at least 0"""


class Merged(Grasp):
    """GRASP trained as it is, with its clusters then averaged into one adapter: what routing is worth at inference

    After the last step each layer's adapters are averaged in what they add, which one bottleneck as wide as all of
    them does exactly. No class has a route any more. The adapter of dropped prompts stays apart: it knows no class.
    """

    Config: ClassVar[type[MethodSettings]] = MergedSettings
    config: MergedSettings
    version = "1"
    paper = (
        "our ablation of GRASP (arXiv 2512.01675); that experts become one model is the setting of E-PMQ, which "
        "quantises what others have merged; the average of outputs in place of weights, and all three ways to weigh "
        "clusters, are our own"
    )
    is_merged = False

    def attach(self, backbone: Backbone, task: Task[TaskSettings], generator: torch.Generator) -> None:
        self.is_merged = False
        super().attach(backbone, task, generator)

    def finished(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        from grasp_bench.adapters.merging import merged

        return merged(state, self.shares(state))

    def shares(self, state: Mapping[str, torch.Tensor]) -> list[float]:
        """The weight of every cluster of classes in the average; they sum to 1."""
        from grasp_bench.adapters.merging import similarities

        clusters = len(self.map.clusters)
        weights = [1.0] * clusters
        if self.config.merge == "counts":
            weights = self.map.composition(self.classes).sum(0).tolist()
        elif self.config.merge == "similarity":
            weights = similarities(state, clusters)
        return [weight / sum(weights) for weight in weights]

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what was merged, where it was, or else weights of a training that goes on."""
        kept = 1 + self.adapters() - len(self.map.clusters)
        own = self.parameters()
        if state.keys() == {name for name in own if int(name.rpartition(".")[2]) < kept}:
            self._make_room(state)
        super().load_state_dict(state)

    def _make_room(self, state: Mapping[str, torch.Tensor]) -> None:
        """Give every layer adapters of the shapes in ``state``."""
        import torch

        from grasp_bench.adapters.merging import layers_of

        for name, adapters in layers_of(state).items():
            layer = self.transformer.get_submodule(name)
            for side, matrices in zip(("down", "up"), zip(*adapters, strict=True), strict=True):
                like = getattr(layer, side)[0]
                empty = [torch.nn.Parameter(like.new_empty(each.shape)) for each in matrices]
                setattr(layer, side, torch.nn.ParameterList(empty))
        self.is_merged = True

    def active_parameters(self) -> int:
        """Return the parameters of one cluster's adapter in training, and of all clusters' average once merged."""
        if not self.is_merged:
            return super().active_parameters()
        return sum(each.numel() for name, each in self.parameters().items() if name.endswith(".0"))

    def condition(self, condition: Condition) -> AbstractContextManager[object]:
        if not self.is_merged:
            return super().condition(condition)
        import torch

        from grasp_bench.adapters.residual import BASE_ONLY, Route
        from grasp_bench.contracts.scope import scope
        from grasp_bench.known import on_host

        null = {"same": 0, "base": BASE_ONLY, "null": 1}[self.config.null_route]
        routed = torch.zeros(len(condition.labels), dtype=torch.long).masked_fill(on_host(condition.dropped), null)
        return scope(Route.of(routed, condition.labels.device))
