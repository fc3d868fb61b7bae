"""Floating-point operations, counted as they are carried out."""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class FlopCount(TorchDispatchMode):
    """Counts those of matrix products, convolutions and attention inside the block, forward and backward.

    A product with its sum counts as two, by torch's own formulas. torch's FlopCounterMode, which also tells modules
    apart, does not bear with ``torch.autograd.grad``, by which a guidance may take a gradient.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch's own lacks types
        self.total: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(getattr(func, "_overloadpacket", None)):
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out
