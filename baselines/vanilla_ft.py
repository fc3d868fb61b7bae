"""Full fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.contracts.recipe import ParameterKind

if TYPE_CHECKING:
    import torch

    from grasp_bench.contracts.backbone import Backbone
    from grasp_bench.contracts.task import Task, TaskSettings


class VanillaSettings(MethodSettings):
    """Settings of full fine-tuning."""

    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    """Peak learning rate of AdamW; the best of six on validation images (`results/digits-lt/learning-rates.json`)"""


class VanillaFineTuning(Method[VanillaSettings]):
    """Full fine-tuning: every weight of the transformer is trained"""

    Config: ClassVar[type[MethodSettings]] = VanillaSettings
    kind: ParameterKind = "all weights"
    version = "1"
    paper = "the common baseline; no single source"

    def attach(self, backbone: Backbone, task: Task[TaskSettings], generator: torch.Generator) -> None:
        self.transformer = backbone.transformer
        kept = self.transformer.state_dict() if self.detachable else {}  # a copy of everything otherwise
        self.base = {name: tensor.clone() for name, tensor in kept.items()}
        self.transformer.requires_grad_(True)

    def detach(self) -> None:
        if not self.detachable:
            raise RuntimeError("vanilla-ft was attached as undetachable: it has no copy of the pretrained weights")
        self.transformer.load_state_dict(self.base)
        self.transformer.requires_grad_(False)
