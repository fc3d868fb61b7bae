"""Floating-point operations (FLOPs), counted as they are carried out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop, sdpa_flop


def _backward_of_convolution(
    grad: Any,
    images: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: Any,
    outputs: Any,
    groups: Any,
    wanted: Sequence[bool],
    out_val: Any = None,
) -> int:
    """Return the FLOPs of a convolution's gradients: those of images and of weights take as many as it does itself.

    torch's own formula takes the weights' gradient of grouped convolutions to be of all channels by all.
    """
    places = images if transposed else grad  # (B, C, ...), where each weight is used once per place
    once = 2 * math.prod(weight.shape) * len(places) * math.prod(places.shape[2:])
    return int(once * sum(wanted[:2]))


FORMULAS = {
    **flop_registry,
    # torch has formulas for the attention kernels of GPUs. Some releases, 2.14 for one, have none for those of the CPU.
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: sdpa_backward_flop,
    torch.ops.aten.convolution_backward: _backward_of_convolution,
}


class FlopCount(TorchDispatchMode):
    """Counts the FLOPs of matrix products, convolutions and attention inside the block, forward and backward.

    A multiplication and its addition count as two, by torch's own formulas, but for the gradients of convolutions.
    torch's FlopCounterMode, which also tells modules apart, fails on ``torch.autograd.grad``, by which a guidance may
    take a gradient.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch's own lacks types
        self.total: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if formula := FORMULAS.get(getattr(func, "_overloadpacket", None)):
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out
