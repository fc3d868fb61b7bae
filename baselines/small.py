"""The smallest baselines: scales, biases and norms, which tell how little is enough for rare classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.contracts.recipe import ParameterKind

from .lora import ThroughPeft

if TYPE_CHECKING:
    import torch
    from torch import nn

    from grasp_bench.contracts.backbone import Backbone
    from grasp_bench.contracts.task import Task, TaskSettings

KEYS_AND_VALUES = ("_k", "_v", "_k_proj", "_v_proj")
"""Name endings of diffusers' projections to keys and values, of the image's tokens and of the prompt's."""


class SmallSettings(MethodSettings):
    """Settings of the smallest baselines."""

    learning_rate: float = Field(default=1e-2, gt=0, le=1)
    """Peak learning rate of AdamW; ten times LoRA's, as so few parameters have to move far, and not searched for"""


class Ia3(ThroughPeft[SmallSettings]):
    """IA³: learned scales of keys, values and the feed-forward layers' inner activations, through peft

    A scale starts at 1. In a feed-forward layer it stands before the last projection, as in the paper.
    """

    Config: ClassVar[type[MethodSettings]] = SmallSettings
    version = "1"
    paper = (
        "Liu et al. 2022, IA3, arXiv 2205.05638; peft's implementation. Our own: the targets in a diffusion "
        "transformer, which are keys and values of every attention and the last layer of every feed-forward layer"
    )

    def configuration(self, backbone: Backbone, task: Task[TaskSettings]) -> Any:
        from peft import IA3Config

        attention = [name for name in self.targets(backbone, task) if name.endswith(KEYS_AND_VALUES)]
        inner = [f"{name}.{_last_layer(module)}" for name, module in backbone.feed_forwards().items()]
        return IA3Config(target_modules=[*attention, *inner], feedforward_modules=inner)


def _last_layer(feed_forward: nn.Module) -> str:
    """Return the name of the last linear or convolutional layer of a feed-forward layer."""
    from torch import nn

    names = [name for name, module in feed_forward.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return str(names[-1])


class Chosen(Method[SmallSettings]):
    """Some of the transformer's own parameters are trained; a subclass says which."""

    Config: ClassVar[type[MethodSettings]] = SmallSettings
    kind: ParameterKind = "low rank"

    def names(self, transformer: nn.Module) -> list[str]:
        """Return the names of the parameters that are trained."""
        raise NotImplementedError

    def attach(self, backbone: Backbone, task: Task[TaskSettings], generator: torch.Generator) -> None:
        self.transformer = backbone.transformer
        self.base = {name: self.transformer.get_parameter(name) for name in self.names(self.transformer)}
        self.before = {name: each.detach().clone() for name, each in self.base.items()} if self.detachable else {}
        for parameter in self.base.values():
            parameter.requires_grad_(True)

    def detach(self) -> None:
        for name, value in self.before.items():
            self.transformer.get_parameter(name).requires_grad_(False).copy_(value)


class BitFit(Chosen):
    """BitFit: only the biases are trained"""

    version = "1"
    paper = "Ben Zaken et al. 2022, BitFit, arXiv 2106.10199; of all layers of the transformer"

    def names(self, transformer: nn.Module) -> list[str]:
        return [name for name, _ in transformer.named_parameters() if name.endswith("bias")]


class LnTuning(Chosen):
    """Tuning of norms: only the scales and shifts of normalised activations are trained

    A diffusion transformer's norms have no scale and shift of their own: these come from the timestep's embedding by a
    linear layer, whose bias is what all timesteps share, or from a table in each block. These biases and tables are
    trained, and the scales of norms that have some, such as those of queries and keys.
    """

    version = "1"
    paper = (
        "after Zhao et al. 2024, arXiv 2312.11420, who tune the layer norms of language models; what stands for their "
        "scales and shifts in a diffusion transformer is our own choice"
    )

    def names(self, transformer: nn.Module) -> list[str]:
        return [
            f"{name}.{own}" if name else own
            for name, module in transformer.named_modules()
            for own, _ in module.named_parameters(recurse=False)
            if own == "scale_shift_table" or _is_norm(module) or (own == "bias" and _modulates(transformer, name))
        ]


def _is_norm(module: nn.Module) -> bool:
    """Return whether a module normalises what it is given."""
    return type(module).__name__.endswith(("LayerNorm", "RMSNorm", "GroupNorm"))


def _modulates(transformer: nn.Module, name: str) -> bool:
    """Return whether a layer gives the scales and shifts of an adaptive norm, as diffusers' classes name theirs."""
    parent, _, child = name.rpartition(".")
    return child == "linear" and "AdaLayerNorm" in type(transformer.get_submodule(parent)).__name__
