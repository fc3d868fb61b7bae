"""A step's gradients by groups of classes, which a method's surgery puts together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from grasp_bench.contracts.method import Batch
from grasp_bench.contracts.surgery import Surgery
from grasp_bench.known import on_host
from grasp_bench.processes import sent
from grasp_bench.run.training.placement import Placement


class GroupGradients:
    """The gradients of a step by group: a backward pass for every group that has samples in a part of the step.

    They take the memory of as many gradients as there are groups, in float32.
    """

    def __init__(self, surgery: Surgery, parameters: Sequence[nn.Parameter], parts: int) -> None:
        """``parts`` are those that the step is worked on in, all of equal size."""
        self.surgery, self.parameters, self.parts = surgery, parameters, parts
        self.sizes = [parameter.numel() for parameter in parameters]
        self.reached = [False] * len(parameters)
        self.group_of: list[int] = surgery.groups.tolist()
        self.sums = torch.zeros(max(self.group_of) + 1, sum(self.sizes), device=parameters[0].device)

    def add(self, part: Batch, losses: torch.Tensor, auxiliary: torch.Tensor | None) -> None:
        """Add the gradients of a part's losses (B,), and of each group's share of its auxiliary loss, a scalar."""
        groups = [self.group_of[label] for label in on_host(part.condition.labels).tolist()]
        present = sorted(set(groups))
        for group in present:
            members = torch.tensor([each == group for each in groups])
            loss = (losses * sent(members, losses.device)).mean()
            if auxiliary is not None:
                loss = loss + auxiliary * (groups.count(group) / len(groups))
            gradients = torch.autograd.grad(
                loss / self.parts, self.parameters, retain_graph=group != present[-1], allow_unused=True
            )
            for number, (row, gradient) in enumerate(zip(self.sums[group].split(self.sizes), gradients, strict=True)):
                if gradient is not None:
                    row += gradient.flatten()
                    self.reached[number] = True

    def finish(self, placement: Placement, stream: torch.Generator) -> None:
        """Leave the step's gradient in the parameters; one that no sample of any process reached gets none."""
        for row in self.sums:
            row.copy_(placement.mean_of(row))
        combined = self.surgery.combine(self.sums, stream.clone_state()).split(self.sizes)
        for parameter, gradient, reached in zip(
            self.parameters, combined, placement.anywhere(self.reached), strict=True
        ):
            if reached:
                parameter.grad = gradient.view_as(parameter).to(parameter.dtype)
