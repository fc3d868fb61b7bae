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
from grasp_bench.processes import Processes, mean, total


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

    def accumulating(self) -> AbstractContextManager[None]:
        """Return a context for a backward pass that another one of the same step follows."""
        return nullcontext()

    def finish_gradients(self) -> None:
        """Complete the gradients after a step's last backward pass."""

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
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        self.accelerator = Accelerator(
            cpu=self.trained[0].device.type == "cpu", mixed_precision="no", kwargs_handlers=[unused]
        )
        self.original = self.backbone.transformer
        self.backbone.transformer = self.accelerator.prepare_model(self.original)

    def accumulating(self) -> AbstractContextManager[None]:
        context: AbstractContextManager[None] = self.accelerator.no_sync(self.backbone.transformer)
        return context

    def release(self) -> None:
        self.backbone.transformer = self.original


class Shards(Placement):
    """Every process holds a share of each weight of the pretrained transformer, and all that the method added.

    Adapters stay whole because a cluster may have samples in one process and none in another, and shards of a
    gradient cannot express that.
    """

    def _place(self) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self.trained[0].device.type, (self.processes.count,))
        lists = (child for child in self.backbone.transformer.children() if isinstance(child, nn.ModuleList))
        for module in (*(block for blocks in lists for block in blocks), self.backbone.transformer):
            fully_shard(module, mesh=mesh, ignored_params=self.added)

    def accumulating(self) -> AbstractContextManager[None]:
        return self._without_reduction()

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
    reached = total(
        torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32, device=parameters[0].device)
    )
    for parameter, times in zip(parameters, reached.tolist(), strict=True):
        if times:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = mean(gradient)


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
    """Return ``tensor``, in shards where ``parameter`` has the same shape and is in shards."""
    if isinstance(parameter, DTensor) and tensor.shape == parameter.shape:
        sharded: torch.Tensor = distribute_tensor(
            tensor.to(parameter.device), parameter.device_mesh, parameter.placements
        )
        return sharded
    return tensor
