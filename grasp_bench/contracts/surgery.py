"""The contract of gradient surgery: a step's gradient is put together from those of groups of classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Surgery:
    """How the gradients of G groups of samples become the gradient of a step."""

    groups: torch.Tensor
    """The group of each class, int64 (classes,) on the CPU; G is one more than the largest."""
    combine: Callable[[torch.Tensor, torch.Generator], torch.Tensor]
    """The groups' gradients, float32 (G, P), and the step's stream → the gradient of the step, (P,).

    The sum of the rows is the gradient of the mean loss. The row of a group without samples is zero. P counts the
    parameters of :meth:`Method.parameters`, in their order. The rows are those of all samples of the step, and every
    process is given the same, once per step.
    """
