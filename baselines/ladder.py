"""Ladder side-tuning: a small network beside the frozen transformer."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.errors import Skip

if TYPE_CHECKING:
    import torch
    from torch import nn

    from grasp_bench.contracts.backbone import Backbone
    from grasp_bench.contracts.task import Task, TaskSettings


class LadderSettings(MethodSettings):
    """Settings of ladder side-tuning."""

    learning_rate: float = Field(default=3e-3, gt=0, le=1)
    """Peak learning rate of AdamW; the paper's, not chosen for this benchmark"""
    side_width: int = Field(default=20, ge=4, le=4096, multiple_of=4)
    """Width of the side network's tokens, of 4 heads; 20 gives about as many parameters as GRASP's defaults on
    tiny-sd3. The paper has an eighth or a quarter of the transformer's"""


class LadderSideTuning(Method[LadderSettings]):
    """LST: a side network that reads the frozen transformer's blocks, through which no gradient goes, and corrects them

    The transformer runs forward only: of its blocks nothing is kept for the backward pass but what each of them gives,
    which the side network reads. Behind them the gradient passes the frozen last layer alone. The side network sees
    the noise level through the transformer's own embedding of it, and the prompt through the blocks.
    """

    Config: ClassVar[type[MethodSettings]] = LadderSettings
    version = "1"
    paper = (
        "after Sung et al. 2022, LST: Ladder Side-Tuning for Parameter and Memory Efficient Transfer Learning, arXiv "
        "2206.06522, which is about language models. Simplified: side blocks are drawn at random and not pruned from "
        "the transformer's own; all blocks have one; prompt and image share them, with plain attention and no "
        "positions. Our own choice: what the side network gives is added to the last block's, from zero, where the "
        "paper's replaces it, so that training starts from the base model"
    )

    def supports(self, backbone: Backbone, task: Task[TaskSettings]) -> Skip | None:
        transformer = backbone.transformer
        if not blocks(transformer) or embedder(transformer) is None or not hasattr(transformer, "norm_out"):
            return Skip(
                "lst needs a list of blocks, an embedding of the timestep and norm_out after the blocks, as diffusers' "
                f"transformers have them; {type(transformer).__name__} has not"
            )
        return None

    def attach(self, backbone: Backbone, task: Task[TaskSettings], generator: torch.Generator) -> None:
        from grasp_bench.adapters.inject import input_width
        from grasp_bench.adapters.ladder import Ladder, Rail

        self.transformer = backbone.transformer
        read, times = blocks(self.transformer), embedder(self.transformer)
        if times is None:
            raise RuntimeError("attach() was called where supports() refuses")
        width = input_width(next(iter(backbone.feed_forwards().values())))
        ladder = Ladder(width, self.config.side_width, streams(read), generator)
        self.transformer.add_module("ladder", ladder)  # where gradients are shared and weights saved
        self.rail = Rail(self.transformer, read, times, ladder)

    def detach(self) -> None:
        self.rail.remove()
        del self.transformer.ladder


def blocks(transformer: nn.Module) -> list[nn.Module]:
    """All of a transformer's blocks in order, of Flux those of two streams before those of one."""
    from torch import nn

    lists = (child for child in transformer.children() if isinstance(child, nn.ModuleList))
    return [block for each in lists for block in each]


def streams(blocks: list[nn.Module]) -> list[tuple[str, ...]]:
    """Whose tokens the first block reads and each block gives: the image's, and the prompt's where they are joined."""
    joint = hasattr(blocks[0], "norm1_context")
    both, image = ("prompt", "image"), ("image",)
    last = [joint and not getattr(block, "context_pre_only", False) for block in blocks]
    return [both if prompt else image for prompt in (joint, *last)]


def embedder(transformer: nn.Module) -> nn.Module | None:
    """What embeds the timestep and what a transformer joins to it, (B, D); None where it is not one of diffusers'."""
    return next((each for each in transformer.modules() if "CombinedTimestep" in type(each).__name__), None)
