"""A simulated GPU: torch code runs as if on ``cuda:0``, nothing is computed, and what it would take is counted.

torch's FakeTensorMode holds tensors that have a device and a shape, and no memory. What it leaves to a GPU's driver is
stood in for: the choice of an attention kernel, autocast's check, the backward pass (:mod:`.engine`), and the kinds of
tensors that multi-tensor optimisers take. Values are those of :mod:`.values`.
"""

from __future__ import annotations

import contextlib
import traceback
import weakref
from collections import Counter
from functools import cache
from typing import Any, Self

import numpy as np
import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from grasp_bench.estimate import values
from grasp_bench.estimate.engine import Engine
from grasp_bench.run.flops import FORMULAS

aten = torch.ops.aten
GRAIN = 512  # bytes, to whose multiples torch's caching allocator rounds
MEMORY = 80 * 2**30  # bytes, which a run chooses by whether embeddings of prompts stay on the GPU
FLASH_WIDTH = 256  # of a head, at most, in the flash kernel
PACKAGES = ("/grasp_bench/", "/baselines/", "/tasks/", "/diffusers/")
"""Whose code a place is looked for in."""
OWN = "/grasp_bench/estimate/"


class DeviceError(Exception):
    """What a GPU refuses and FakeTensorMode lets pass."""


class SimulatedGpu(contextlib.AbstractContextManager["SimulatedGpu"]):
    """A GPU that is not there: inside the context, code may use the device ``cuda``.

    Bytes are those of torch's allocator, without fragmentation and the workspaces of libraries. Places are "file:line"
    of the innermost line of ours or of diffusers'.
    """

    def __init__(self, large: int = values.KNOWN) -> None:
        """``large`` is the number of elements above which a tensor in float64 is noted."""
        self.large = large
        self.live = 0
        """Bytes that something holds."""
        self.syncs, self.uploads, self.float64 = Counter[str](), Counter[str](), Counter[str]()
        """Place → how often the host waited there for a value, sent it something and waited, or made a large tensor in
        float64."""
        self._storages: dict[int, Any] = {}
        self._stack = contextlib.ExitStack()
        self.reset()

    def reset(self) -> None:
        """Set all counters to zero, and the peak to the bytes that are live now."""
        self.peak = self.live
        """Most bytes that were live."""
        self.flops = 0
        """FLOPs of matrix products, convolutions and attention, a multiplication and its addition being two."""
        self.traffic = 0
        """Bytes that kernels read and wrote, each by itself."""
        for each in (self.syncs, self.uploads, self.float64):
            each.clear()

    def note_copy(self, source: Any, out: torch.Tensor, non_blocking: bool) -> None:
        """Note a copy between host and GPU; one that does not block is not waited for on its way to the GPU."""
        if not isinstance(source, torch.Tensor) or source.device.type == out.device.type:
            return
        if out.device.type == "cpu":
            self.syncs[_place()] += 1
        elif not non_blocking:
            self.uploads[_place()] += 1

    def note_sync(self, tensor: torch.Tensor) -> None:
        """Note that the host waits for a value, if it is on the GPU."""
        if tensor.device.type == "cuda":
            self.syncs[_place()] += 1

    def note_kernel(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Note what an operation takes, if it is on the GPU."""
        made = [each for each in tree_leaves(out) if isinstance(each, FakeTensor) and each.device.type == "cuda"]
        for tensor in made:
            self._note_memory(tensor)
        if not made or _is_view(func):
            return
        if formula := FORMULAS.get(func._overloadpacket):
            self.flops += formula(*args, **kwargs, out_val=out)
        read = (each for each in tree_leaves((args, kwargs)) if isinstance(each, FakeTensor))
        self.traffic += sum(tensor.numel() * tensor.element_size() for tensor in (*read, *made))

    def _note_memory(self, tensor: FakeTensor) -> None:
        if tensor.dtype == torch.float64 and tensor.numel() > self.large:
            self.float64[_place()] += 1
        storage = tensor.untyped_storage()
        key, size = storage._cdata, -(-storage.nbytes() // GRAIN) * GRAIN
        if key in self._storages:
            return

        def released() -> None:
            self._storages.pop(key, None)
            self.live -= size

        self._storages[key] = finalizer = weakref.finalize(storage, released)
        finalizer.atexit = False
        self.live += size
        self.peak = max(self.peak, self.live)

    def __enter__(self) -> Self:
        import torch.cuda.amp.common as amp
        import torch.optim.optimizer as optimizers

        engine, multi_tensor = Engine(), optimizers._foreach_supported_types
        for owner, name, stand_in in (
            (amp, "amp_definitely_not_available", lambda: False),
            (torch.cuda, "is_bf16_supported", lambda *args, **kwargs: True),
            (torch.cuda, "device", contextlib.nullcontext),
            (torch.cuda, "mem_get_info", lambda *args: (MEMORY, MEMORY)),
            (torch.cuda, "empty_cache", lambda: None),
            (torch.nn.Module, "_apply", _apply),
            (torch.nn.utils, "skip_init", lambda kind, *args, **kwargs: kind(*args, **kwargs)),
            (torch.Tensor, "backward", lambda root, *args, **kwargs: engine.backward(root, *args, **kwargs)),
            (torch.autograd, "grad", engine.grad),
            (torch.Tensor, "numpy", _numpy),
            (torch.Tensor, "pin_memory", lambda tensor, *args: tensor),
            (FakeTensor, "tolist", lambda tensor: self._tolist(tensor)),
            (torch._C, "_current_graph_task_id", lambda: engine.passes),
        ):
            self._stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, stand_in)
        multi_tensor.append(FakeTensor)  # so that they take as much memory as real ones
        self._stack.callback(multi_tensor.remove, FakeTensor)
        self._stack.enter_context(torch.autograd.graph.saved_tensors_hooks(engine.pack, engine.unpack))
        self._stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        self._stack.enter_context(_Watch(self))
        self._stack.enter_context(_Attention())
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _tolist(self, tensor: torch.Tensor) -> Any:
        self.note_sync(tensor)
        return values.as_array(tensor).tolist()


class _Attention(TorchFunctionMode):
    """Attention by the kernel that torch chooses on a GPU since Ampere, which it would ask the driver for."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not scaled_dot_product_attention or (args or [kwargs["query"]])[0].device.type != "cuda":
            return func(*args, **kwargs)
        return _attend(*args, **kwargs)


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Attend by the flash kernel, or by the memory-efficient one: flash takes half precision without a mask."""
    if enable_gqa:
        repeats = query.size(-3) // key.size(-3)
        key, value = (each.repeat_interleave(repeats, -3) for each in (key, value))
    found: torch.Tensor
    half = query.dtype in (torch.float16, torch.bfloat16)
    if attn_mask is None and half and query.shape[-1] <= FLASH_WIDTH:
        found = aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, False, scale=scale)[0]
        return found
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill(~attn_mask, float("-inf"))
        attn_mask = attn_mask.expand(*query.shape[:3], key.shape[2])
    grad = torch.is_grad_enabled() and any(each.requires_grad for each in (query, key, value))
    found = aten._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, grad, dropout_p, is_causal, scale=scale
    )[0]
    return found


class _Watch(TorchDispatchMode):
    """Sees every operation before FakeTensorMode does."""

    def __init__(self, gpu: SimulatedGpu) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch's own lacks types
        self.gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, gpu = kwargs or {}, self.gpu
        if func.namespace == "prim":  # asks for a tensor's device, and does nothing
            return func(*args, **kwargs)
        known = values.known_arguments(args, kwargs)
        if func is aten._local_scalar_dense.default:  # of item(), bool(), int() and float()
            gpu.note_sync(args[0])
            return values.as_array(args[0]).item()
        try:
            out = func(*args, **kwargs)
        except (DynamicOutputShapeException, DataDependentOutputException):
            tensor = next(each for each in tree_leaves(args) if isinstance(each, torch.Tensor))
            gpu.note_sync(tensor)
            out = values.of_any_shape(func, args, known, tensor.device)
        _check_generator(func, kwargs, out)
        values.keep(func, args, known, out)
        if func in (aten._to_copy.default, aten.copy_.default):
            non_blocking = kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
            gpu.note_copy(args[func is aten.copy_.default], out, non_blocking)
        gpu.note_kernel(func, args, kwargs, out)
        return out


def adopt(module: torch.nn.Module) -> None:
    """Make the parameters and buffers of a module that was loaded for real simulated ones, on the host as they were."""
    for each in module.modules():
        for name, parameter in each._parameters.items():
            if parameter is not None:
                each._parameters[name] = torch.nn.Parameter(torch.empty_like(parameter), parameter.requires_grad)
        for name, buffer in each._buffers.items():
            if buffer is not None and buffer.numel() > values.KNOWN:
                each._buffers[name] = torch.empty_like(buffer)


def _apply(module: torch.nn.Module, fn: Any, recurse: bool = True) -> torch.nn.Module:
    """Stand in for ``torch.nn.Module._apply``, which would swap parameters that others hold weak references to."""
    if recurse:
        for child in module.children():
            _apply(child, fn)
    for parameter in module._parameters.values():
        if parameter is not None:
            with torch.no_grad():
                moved = fn(parameter)
                parameter.data = moved
                parameter.fake_device = moved.fake_device  # type: ignore[attr-defined] # of a FakeTensor
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = fn(buffer)
    return module


def _numpy(tensor: torch.Tensor, *, force: bool = False) -> np.ndarray:
    """Stand in for ``torch.Tensor.numpy``."""
    if tensor.device.type == "cuda":
        raise DeviceError(f"{_place()}: numpy() of a tensor on the GPU; it has to be copied to the host first")
    return values.as_array(tensor)


def _check_generator(func: Any, kwargs: dict[str, Any], out: Any) -> None:
    """Refuse a generator of the host's for numbers that are drawn on the GPU, as torch does with a real one."""
    generator = kwargs.get("generator")
    if generator is not None and isinstance(out, torch.Tensor) and generator.device.type != out.device.type:
        raise DeviceError(f"{_place()}: {func} on {out.device} with a generator of {generator.device}")


@cache
def _is_view(func: Any) -> bool:
    """Whether an operation gives another look at the memory that it is given, and starts no kernel."""
    return any(each.alias_info is not None and not each.alias_info.is_write for each in func._schema.returns)


def _place() -> str:
    """Return "file:line" of the innermost line of :data:`PACKAGES` that runs, other than of the simulation."""
    for frame in reversed(traceback.extract_stack(limit=90)):
        if OWN not in frame.filename:
            for package in PACKAGES:
                if package in frame.filename:
                    return f"{package.strip('/')}/{frame.filename.split(package)[-1]}:{frame.lineno}"
    return "elsewhere"
