"""The precision of a transformer's products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from grasp_bench.contracts.spec import Precision


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """A context in which the transformer computes in ``precision``."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@contextmanager
def quick_products(precision: Precision, device: torch.device) -> Iterator[None]:
    """Inside the block, float32 products on a GPU are made of TF32 factors where ``precision`` is float32.

    They are several times quicker, and about as exact as bfloat16's with float32's range. Nothing changes on the CPU,
    in bfloat16, in float64, or after the block, so features and scores are computed in full.
    """
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda" and precision == "float32":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def exact_convolutions() -> AbstractContextManager[None]:
    """A context in which no float32 convolution on a GPU is made of TF32 factors, as torch does unless it is told.

    Those round to 10 bits: differently for every batch size, and only on cards that have them.
    """
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


def store_frozen(transformer: torch.nn.Module, precision: Precision) -> None:
    """Keep weights that are not trained in ``precision``; trained ones stay in float32."""
    if precision == "bfloat16":
        for parameter in transformer.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(torch.bfloat16)
