"""Values on a device that the program knows as well, because it has sent them there: reading them waits for nothing.

Routes and the like are decided in Python, by labels and timesteps that a step's forward pass has on its device. To read
them back there would make every step wait until the device has done all that was asked of it before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grasp_bench.processes import sent

if TYPE_CHECKING:
    import torch
    from torch.utils.weak import WeakTensorKeyDictionary

_known: WeakTensorKeyDictionary | None = None


def known(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return ``tensor``, which is on the CPU, on ``device``, where :func:`on_host` knows its values."""
    return noted(sent(tensor, device), tensor)


def noted(there: torch.Tensor, here: torch.Tensor) -> torch.Tensor:
    """Return ``there``, which is a tensor of its own on a device, and note that its values are those of ``here``."""
    from torch.utils.weak import WeakTensorKeyDictionary

    global _known
    if there.device.type != "cpu":
        _known = WeakTensorKeyDictionary() if _known is None else _known
        _known[there] = here.contiguous(), there._version
    return there


def is_known(tensor: torch.Tensor) -> bool:
    """Whether :func:`on_host` of a tensor waits for no device."""
    return tensor.device.type == "cpu" or _found(tensor) is not None


def on_host(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor's values on the CPU: without waiting where it, or what it is a view of, was sent from there.

    A tensor that was changed since, or computed on the device, is read from it.
    """
    if tensor.device.type == "cpu":
        return tensor
    found = _found(tensor)
    return tensor.cpu() if found is None else found


def joined(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return ``torch.cat([first, second])``, whose values are known where those of both are."""
    import torch

    together = torch.cat([first, second])
    if together.device.type == "cpu" or not (is_known(first) and is_known(second)):
        return together
    return noted(together, torch.cat([on_host(first), on_host(second)]))


def _found(tensor: torch.Tensor) -> torch.Tensor | None:
    base = tensor if tensor._base is None else tensor._base
    here, version = _known.get(base, (None, 0)) if _known is not None else (None, 0)
    if here is None or version != base._version or here.dtype != tensor.dtype:
        return None
    found: torch.Tensor = here.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
    return found
