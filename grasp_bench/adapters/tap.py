"""Reading what a transformer holds half-way, for losses on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from grasp_bench.contracts.scope import recomputing

if TYPE_CHECKING:
    from grasp_bench.contracts.backbone import Backbone


class Tap:
    """The image's tokens after one block, averaged and projected, of the last forward pass that recorded a gradient.

    A block gives the image's tokens (B, N, D), or those of the prompt and of the image.
    """

    def __init__(self, block: nn.Module, project: nn.Module) -> None:
        """``project`` maps (B, D) to (B, P)."""
        self.project = project
        self.features: torch.Tensor | None = None
        self.hook = block.register_forward_hook(self._record)

    def take(self) -> torch.Tensor:
        """Features (B, P) of the last forward pass, which are then forgotten."""
        features, self.features = self.features, None
        if features is None:
            raise RuntimeError("no forward pass with a gradient has run since the last features were taken")
        return features

    def remove(self) -> None:
        """Leave the block as it was."""
        self.hook.remove()

    def _record(self, block: nn.Module, arguments: Any, output: Any) -> Any:
        if not torch.is_grad_enabled():
            return output
        *others, hidden_states = output if isinstance(output, tuple) else (output,)
        features: torch.Tensor = self.project(hidden_states.mean(1))
        if not recomputing():
            self.features = features
        # the output has to depend on the projection: DistributedDataParallel looks there for what has a gradient
        hidden_states = hidden_states + 0 * features.sum()
        return (*others, hidden_states) if others else hidden_states


def blocks(backbone: Backbone) -> list[nn.Module]:
    """The blocks, in order, that have a feed-forward layer of their own, as all have but FLUX.1's single ones."""
    layers = set(backbone.feed_forwards().values())
    return [block.module for block in backbone.blocks() if layers & set(block.module.modules())]
