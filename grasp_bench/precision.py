"""The precision of a transformer's products."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from grasp_bench.contracts.spec import Precision


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """A context in which the transformer computes in ``precision``."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def store_frozen(transformer: torch.nn.Module, precision: Precision) -> None:
    """Keep weights that are not trained in ``precision``; trained ones stay in float32."""
    if precision == "bfloat16":
        for parameter in transformer.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(torch.bfloat16)
