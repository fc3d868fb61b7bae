"""Backward passes without torch's engine, which asks a GPU's driver: the same graph, walked in Python."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from itertools import count
from typing import Any

import torch

LEAF = "torch::autograd::AccumulateGrad"
Place = tuple[Any, int]
"""A node of the graph, and the number of one of its inputs."""


class Saved:
    """A tensor that a node keeps for the backward pass, until the pass has used it."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: torch.Tensor | None) -> None:
        self.tensor = tensor


class Engine:
    """Walks the graph in the order of torch's engine, latest node first; gradients are summed, cast and reduced alike.

    Hooks of tensors and parameters are not called, so what DDP and FSDP do in the backward pass is not simulated.
    :meth:`pack` and :meth:`unpack` are to be the hooks of saved tensors while a graph is made.
    """

    def __init__(self) -> None:
        self.passes = 0
        """How many backward passes there were, by which gradient checkpointing tells them apart."""
        self._unpacked: list[Saved] = []

    def pack(self, tensor: torch.Tensor) -> Saved:
        """Return what a node keeps in the place of ``tensor``."""
        return Saved(tensor)

    def unpack(self, saved: Saved) -> Any:
        """Return the tensor that was kept; None once a backward pass has used it."""
        self._unpacked.append(saved)
        return saved.tensor

    def backward(
        self, root: torch.Tensor, gradient: torch.Tensor | None = None, retain_graph: bool | None = None, **_: Any
    ) -> None:
        """Stand in for ``torch.Tensor.backward``."""
        self._pass([root], [gradient], retain_graph, {})

    def grad(
        self,
        outputs: torch.Tensor | Sequence[torch.Tensor],
        inputs: torch.Tensor | Sequence[torch.Tensor],
        grad_outputs: Any = None,
        retain_graph: bool | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor | None, ...]:
        """Stand in for ``torch.autograd.grad``; a graph of gradients is not made."""
        roots = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
        wanted = [inputs] if isinstance(inputs, torch.Tensor) else list(inputs)
        given = [grad_outputs] if isinstance(grad_outputs, torch.Tensor) else list(grad_outputs or [None] * len(roots))
        places = [_place(tensor) for tensor in wanted]
        found: dict[Place, torch.Tensor | None] = dict.fromkeys(places)
        self._pass(roots, given, retain_graph, found)
        return tuple(found[place] for place in places)

    def _pass(
        self,
        roots: Sequence[torch.Tensor],
        gradients: Sequence[torch.Tensor | None],
        keep: bool | None,
        found: dict[Place, torch.Tensor | None],
    ) -> None:
        """Run the graph behind ``roots``; where ``found`` names places, fill it and leave parameters alone."""
        self.passes += 1
        with torch.no_grad():
            buffers: dict[Any, dict[int, torch.Tensor | None]] = {}
            for root, gradient in zip(roots, gradients, strict=True):
                buffers.setdefault(root.grad_fn, {})[root.output_nr] = (
                    torch.ones_like(root) if gradient is None else gradient
                )
            del gradients
            self._run(buffers, bool(keep), found)

    def _run(
        self, buffers: dict[Any, dict[int, torch.Tensor | None]], keep: bool, found: dict[Place, torch.Tensor | None]
    ) -> None:
        waits, ties = _dependencies(list(buffers)), count()
        ready = [(-node._sequence_nr(), next(ties), node) for node in buffers if not waits[node]]
        heapq.heapify(ready)
        while ready:
            node = heapq.heappop(ready)[-1]
            given = buffers.pop(node, {})
            for number, gradient in given.items():
                if (node, number) in found:
                    found[node, number] = gradient
            if node.name() == LEAF:
                if not found:
                    _accumulate(node.variable, given.get(0))
                continue
            arguments = [given.get(number) for number in range(len(node._input_metadata))]
            given.clear()
            results = self._apply(node, arguments, keep)
            arguments.clear()
            for place, (after, number) in enumerate(node.next_functions):
                if after is None:
                    continue
                result, results[place] = results[place], None
                _add(buffers.setdefault(after, {}), number, result, node, after)
                del result
                waits[after] -= 1
                if not waits[after]:
                    heapq.heappush(ready, (-after._sequence_nr(), next(ties), after))

    def _apply(self, node: Any, gradients: list[torch.Tensor | None], keep: bool) -> list[torch.Tensor | None]:
        """Return the gradients of what ``node`` was made from, and let go of what it kept for that."""
        if all(gradient is None for gradient in gradients):
            return [None] * len(node.next_functions)
        self._unpacked.clear()
        results = node(*gradients) if callable(node) else node.apply(*gradients)
        if not keep:
            for saved in self._unpacked:
                saved.tensor = None
        self._unpacked.clear()
        return list(results) if isinstance(results, tuple) else [results]


def _place(tensor: torch.Tensor) -> Place:
    if tensor.grad_fn is not None:
        return tensor.grad_fn, tensor.output_nr
    with torch.enable_grad():
        return tensor.view_as(tensor).grad_fn.next_functions[0][0], 0  # type: ignore[union-attr] # it requires a gradient


def _dependencies(roots: Sequence[Any]) -> Counter[Any]:
    """Node → how many nodes, of those behind ``roots``, have to give it a gradient first."""
    waits, stack, seen = Counter[Any](), list(roots), set(roots)
    while stack:
        for after, _ in stack.pop().next_functions:
            if after is not None:
                waits[after] += 1
                if after not in seen:
                    seen.add(after)
                    stack.append(after)
    return waits


def _accumulate(variable: torch.Tensor, gradient: torch.Tensor | None) -> None:
    if gradient is not None:
        variable.grad = gradient.detach() if variable.grad is None else variable.grad.add_(gradient)


def _add(
    buffer: dict[int, torch.Tensor | None], number: int, gradient: torch.Tensor | None, node: Any, after: Any
) -> None:
    """Add a gradient to those that wait for ``after``, in place where no other tensor shares its memory.

    Raises RuntimeError for a gradient on another device than what it is the gradient of.
    """
    former = buffer.get(number)
    if gradient is None:
        buffer.setdefault(number, None)
        return
    wanted = after._input_metadata[number]
    if gradient.device != wanted.device:
        raise RuntimeError(
            f"{node.name()} gives a gradient on {gradient.device}, {after.name()} wants one on {wanted.device}"
        )
    if gradient.shape != tuple(wanted.shape):
        gradient = gradient.sum_to_size(wanted.shape)
    if gradient.dtype != wanted.dtype:
        gradient = gradient.to(wanted.dtype)
    if former is None:
        buffer[number] = gradient
    elif former._base is None and former.is_contiguous():
        buffer[number] = former.add_(gradient)
    else:
        buffer[number] = former + gradient
