"""Errors that say that memory ran out, trying whether it does, and giving back what is held."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TYPE_CHECKING

from grasp_bench.processes import alone

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


def has_room(attempt: Callable[[], None], device: torch.device) -> bool:
    """Return whether ``attempt`` ends without running out of memory, which is then given back."""
    try:
        with alone():
            attempt()
        fits = True
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        fits = False
    if not fits:
        release(device)  # not in the except block, where the error still holds every tensor of the attempt
    return fits
