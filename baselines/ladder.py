"""Ladder side-tuning: a small network beside the frozen transformer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from grasp_bench.contracts.method import MethodSettings
from grasp_bench.contracts.recipe import ParameterKind
from grasp_bench.contracts.sized import SizedMethod, SizedSettings
from grasp_bench.errors import Skip

if TYPE_CHECKING:
    import torch

    from grasp_bench.contracts.backbone import Backbone
    from grasp_bench.contracts.task import Task, TaskSettings


class LadderSettings(SizedSettings):
    """Settings of ladder side-tuning."""

    size: ClassVar[str] = "side_width"

    learning_rate: float = Field(default=3e-3, gt=0, le=1)
    """Peak learning rate of AdamW; the paper's, not chosen for this benchmark"""
    side_width: int | None = Field(default=20, ge=4, le=4096, multiple_of=4)
    """Width of the side network's tokens, of 4 heads; 20 gives about as many parameters as GRASP's defaults on
    tiny-sd3. The paper has an eighth or a quarter of the transformer's"""


class LadderSideTuning(SizedMethod[LadderSettings]):
    """LST: a side network that reads the frozen transformer's blocks, through which no gradient goes, and corrects them

    The transformer runs forward only: of its blocks nothing is kept for the backward pass but what each of them gives,
    which the side network reads. Behind them the gradient passes the frozen last layer alone. The side network sees
    the noise level through the transformer's own embedding of it, and the prompt through the blocks.
    """

    Config: ClassVar[type[MethodSettings]] = LadderSettings
    kind: ParameterKind = "adapters"
    version = "1"
    paper = (
        "after Sung et al. 2022, LST: Ladder Side-Tuning for Parameter and Memory Efficient Transfer Learning, arXiv "
        "2206.06522, which is about language models. Simplified: side blocks are drawn at random and not pruned from "
        "the transformer's own; all blocks have one; prompt and image share them, with plain attention and no "
        "positions. Our own choice: what the side network gives is added to the last block's, from zero, where the "
        "paper's replaces it, so that training starts from the base model"
    )

    def supports(self, backbone: Backbone, task: Task[TaskSettings]) -> Skip | None:
        if not backbone.blocks() or backbone.conditioning() is None or backbone.output_norm() is None:
            return Skip(
                "lst needs a list of blocks, an embedding of the timestep and a layer after the blocks, and the "
                f"backbone of {type(backbone.transformer).__name__} does not name them"
            )
        return None

    def attach(self, backbone: Backbone, task: Task[TaskSettings], generator: torch.Generator) -> None:
        from grasp_bench.adapters.ladder import Ladder, Rail, streams

        self.transformer = backbone.transformer
        side_width = self.find_size(backbone, task)
        ladder = Ladder(_width(backbone), side_width, streams(backbone.blocks()), generator)
        self.transformer.add_module("ladder", ladder)  # where gradients are shared and weights saved
        self.rail = Rail(backbone, ladder)

    def count(self, backbone: Backbone, task: Task[TaskSettings]) -> Callable[[int], int]:
        from grasp_bench.adapters.ladder import count, streams

        width, found = _width(backbone), streams(backbone.blocks())
        return lambda side_width: count(width, side_width, found)

    def detach(self) -> None:
        self.rail.remove()
        del self.transformer.ladder


def _width(backbone: Backbone) -> int:
    """Width of the transformer's tokens."""
    from grasp_bench.adapters.inject import input_width

    return input_width(next(iter(backbone.feed_forwards().values())))
