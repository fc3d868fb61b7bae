"""How a transformer is placed on the devices of a run while it is trained: whole, copied to each, or in shards.

Copies are made by accelerate, with torch's ``DistributedDataParallel``; shards are torch's ``fully_shard``, called
directly since accelerate has it on GPUs only, and what is tested on a CPU should be what runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from grasp_bench.contracts.backbone import Backbone
from grasp_bench.exchange import mean, total
from grasp_bench.processes import Processes


class Placement:
    """The backbone's transformer in one process; several processes each get the mean of their gradients."""

    def __init__(
        self, backbone: Backbone, trained: Sequence[nn.Parameter], added: set[nn.Parameter], processes: Processes
    ) -> None:
        """``added`` are the parameters that the method added to the transformer."""
        self.backbone, self.trained, self.added, self.processes = backbone, trained, added, processes
        self._place()

    def _place(self) -> None:
        """Put something else in the place of the backbone's transformer, where that is needed."""

    exchanges_late = False
    """Whether copies exchange gradients after a step's passes rather than during the last one, which so may fail."""
    can_retry = True
    """Whether a step whose passes fail in one process can be worked on again in all of them."""

    def passes(self, is_last: bool) -> AbstractContextManager[None]:
        """Return a context for the passes through a part of a step, or for those through its last part."""
        return nullcontext()

    def finish_gradients(self) -> None:
        """Complete the gradients after a step's last backward pass."""

    def mean_of(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the mean, over the processes that share a step, of a gradient that no backward pass has exchanged."""
        return gradient

    def anywhere(self, reached: Sequence[bool]) -> list[bool]:
        """Return, for each parameter, whether the samples of any process reached it."""
        return list(reached)

    def enable_gradient_checkpointing(self) -> None:
        """Recompute activations from the next step on."""
        self.backbone.enable_gradient_checkpointing()

    def release(self) -> None:
        """Put the original transformer back into the backbone where another object took its place."""


class Copies(Placement):
    """A copy of the whole transformer in every process."""

    def _place(self) -> None:
        from accelerate import Accelerator, DistributedDataParallelKwargs

        known = {id(parameter) for parameter in self.backbone.transformer.parameters()}
        if any(id(parameter) not in known for parameter in self.trained):
            raise RuntimeError(
                "a method trains parameters outside the transformer: their gradients would not be shared"
            )
        # a cluster may have samples in one process and none in another
        # no module of a transformer changes its buffers in a training, so that they need not be sent at every pass
        unused = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
        self.accelerator = Accelerator(
            cpu=self.trained[0].device.type == "cpu", mixed_precision="no", kwargs_handlers=[unused]
        )
        self.original = self.backbone.transformer
        self.backbone.transformer = self.accelerator.prepare_model(self.original)

    def passes(self, is_last: bool) -> AbstractContextManager[None]:
        if is_last and not self.exchanges_late:
            return nullcontext()
        context: AbstractContextManager[None] = self.accelerator.no_sync(self.backbone.transformer)
        return context

    def finish_gradients(self) -> None:
        if self.exchanges_late:
            average_gradients(self.trained)

    def mean_of(self, gradient: torch.Tensor) -> torch.Tensor:
        return mean(gradient)

    def anywhere(self, reached: Sequence[bool]) -> list[bool]:
        return _anywhere(reached, self.trained[0].device)

    def enable_gradient_checkpointing(self) -> None:
        copies, self.backbone.transformer = self.backbone.transformer, self.original
        self.backbone.enable_gradient_checkpointing()
        self.backbone.transformer = copies

    def release(self) -> None:
        self.backbone.transformer = self.original


class Shards(Placement):
    """Every process holds a share of each weight of the pretrained transformer, and all that the method added.

    Adapters stay whole because a cluster may have samples in one process and none in another, and shards of a
    gradient cannot express that. A process that fails in a pass leaves the others waiting for its shares.
    """

    can_retry = False

    def _place(self) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self.trained[0].device.type, (self.processes.count,))
        lists = (child for child in self.backbone.transformer.children() if isinstance(child, nn.ModuleList))
        for module in (*(block for blocks in lists for block in blocks), self.backbone.transformer):
            fully_shard(module, mesh=mesh, ignored_params=self.added)

    def passes(self, is_last: bool) -> AbstractContextManager[None]:
        return nullcontext() if is_last else self._without_reduction()

    @contextmanager
    def _without_reduction(self) -> Iterator[None]:
        self.backbone.transformer.set_requires_gradient_sync(False)  # type: ignore[operator] # fully_shard adds it
        try:
            yield
        finally:
            self.backbone.transformer.set_requires_gradient_sync(True)  # type: ignore[operator] # as above

    def finish_gradients(self) -> None:
        average_gradients([parameter for parameter in self.trained if parameter in self.added])


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace gradients by their means over processes; a parameter that no process's samples reached gets none."""
    if not parameters:
        return
    reached = _anywhere([parameter.grad is not None for parameter in parameters], parameters[0].device)
    for parameter, is_reached in zip(parameters, reached, strict=True):
        if is_reached:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = mean(gradient)


def _anywhere(flags: Sequence[bool], device: torch.device) -> list[bool]:
    """Return which flags are true in any process."""
    return [times > 0 for times in total(torch.tensor(flags, dtype=torch.int32, device=device)).tolist()]


def clip_gradients(parameters: Sequence[nn.Parameter], limit: float) -> torch.Tensor:
    """Scale gradients, some of which may be in shards, to a global L2 norm of at most ``limit``; return their norm."""
    sharded = [parameter for parameter in parameters if isinstance(parameter, DTensor)]
    if len(sharded) in (0, len(parameters)):
        return whole(nn.utils.clip_grad_norm_(parameters, limit))
    kinds = sharded, [parameter for parameter in parameters if not isinstance(parameter, DTensor)]
    norms = [
        whole(nn.utils.get_total_norm([parameter.grad for parameter in kind if parameter.grad is not None]))
        for kind in kinds
    ]
    norm: torch.Tensor = torch.stack(norms).norm()
    for kind in kinds:
        nn.utils.clip_grads_with_norm_(kind, limit, norm)
    return norm


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return the whole of a tensor that may be in shards; every process must call this."""
    if isinstance(tensor, DTensor):
        gathered: torch.Tensor = tensor.full_tensor()
        return gathered
    return tensor.detach()


def placed_like(tensor: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """Return ``tensor``, in shards where ``parameter`` has the same shape and is in shards.

    Every process must call this. Shards are sent by the first one, so that the others read nothing of a ``tensor`` that
    is mapped from a file.
    """
    if isinstance(parameter, DTensor) and tensor.shape == parameter.shape:
        mesh, device = parameter.device_mesh, parameter.device
        source = tensor.to(device) if mesh.get_rank() == 0 else torch.empty_like(tensor, device=device)
        sharded: torch.Tensor = distribute_tensor(source, mesh, parameter.placements)
        return sharded
    return tensor
