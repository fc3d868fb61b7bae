"""A learned offset of each class's prompt, and nothing else."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from grasp_bench.adapters.prompts import token_width
from grasp_bench.contracts.method import Condition, Method, MethodSettings
from grasp_bench.contracts.recipe import ParameterKind
from grasp_bench.errors import Skip

if TYPE_CHECKING:
    import torch

    from grasp_bench.contracts.backbone import Backbone
    from grasp_bench.contracts.task import Task, TaskSettings

OFFSETS = "class_offsets"
TOKENS = "encoder_hidden_states"
"""Argument of diffusers' transformers that holds the prompt's tokens (B, T, D)."""


class ClassTokenSettings(MethodSettings):
    """Settings of learned tokens."""

    learning_rate: float = Field(default=1e-2, gt=0, le=1)
    """Peak learning rate of AdamW; ten times LoRA's, as so few parameters have to move far, and not searched for"""


class ClassToken(Method[ClassTokenSettings]):
    """Class token: an offset per class that is added to the tokens of its prompt; the transformer stays as it is

    A dropped prompt has no offset, so that the unconditional branch of guidance is the pretrained model's.
    """

    Config: ClassVar[type[MethodSettings]] = ClassTokenSettings
    kind: ParameterKind = "low rank"
    version = "1"
    paper = (
        "after Gal et al. 2022, textual inversion, arXiv 2208.01618, who learn the embedding of a new word before the "
        "text encoder. Our own: an offset after the encoders, which starts at zero: one vector for all of a prompt's "
        "tokens, as theirs is one; a vector for each of the 333 of SD3.5 would be 26 million parameters for 19 classes"
    )

    def supports(self, backbone: Backbone, task: Task[TaskSettings]) -> Skip | None:
        if token_width(backbone) is None:
            return Skip("the transformer reads the class itself, and no tokens of a prompt that an offset could move")
        return None

    def attach(self, backbone: Backbone, task: Task[TaskSettings], generator: torch.Generator) -> None:
        import torch

        width = token_width(backbone)
        assert width is not None
        self.transformer = backbone.transformer
        offsets = torch.zeros(len(task.classes()), width, device=next(self.transformer.parameters()).device)
        self.transformer.register_parameter(OFFSETS, torch.nn.Parameter(offsets))
        self.handle = self.transformer.register_forward_pre_hook(_moved, with_kwargs=True)

    def detach(self) -> None:
        self.handle.remove()
        del self.transformer.class_offsets

    def condition(self, condition: Condition) -> AbstractContextManager[object]:
        from grasp_bench.contracts.scope import scope

        return scope(condition)


def _moved(transformer: torch.nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
    """Add each sample's offset to its prompt's tokens, as a hook before the transformer's forward pass.

    Raises RuntimeError for a forward pass outside :meth:`ClassToken.condition`, whose classes are not known.
    """
    from grasp_bench.contracts.scope import current_scope

    condition = current_scope()
    if not isinstance(condition, Condition):
        raise RuntimeError("a forward pass of class-token needs the classes of its samples: enter its condition first")
    own = transformer.get_parameter(OFFSETS)[condition.labels]  # (B, D)
    own = own.masked_fill(condition.dropped[:, None], 0)
    tokens = named[TOKENS]
    return arguments, named | {TOKENS: tokens + own[:, None].to(tokens)}
