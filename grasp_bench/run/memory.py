"""Errors that say that memory ran out, and giving back what is held."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on a GPU or on the CPU."""
    import torch

    allocation = "not enough memory" in str(error) or "can't allocate memory" in str(error)
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or allocation


def release(device: torch.device) -> None:
    """Give cached memory of a device back, once nothing refers to it: call it outside of an ``except`` block."""
    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
