"""The forward and backward passes of a training step, and each group's mean squared error."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from pydantic import JsonValue

from grasp_bench.contracts.backbone import Backbone
from grasp_bench.contracts.method import Batch, Method, MethodSettings
from grasp_bench.contracts.spec import Precision
from grasp_bench.exchange import agree, total
from grasp_bench.precision import autocast
from grasp_bench.run.training.placement import Placement
from grasp_bench.run.training.surgery import GroupGradients


class GroupLoss:
    """Mean squared error of each group since it was last read: what methods share, whatever else a loss has."""

    def __init__(self, groups: tuple[str, ...], group_of_class: np.ndarray, device: torch.device) -> None:
        self.groups, self.group_of_class = groups, torch.from_numpy(group_of_class).to(device)
        self.sums, self.counts = torch.zeros(2, len(groups), dtype=torch.float64, device=device)

    def add(self, labels: torch.Tensor, prediction: torch.Tensor, target: torch.Tensor) -> None:
        """Predictions and their targets (B, ...) of samples with ``labels`` (B,); nothing waits for the device."""
        losses = (prediction.detach() - target).square().flatten(1).mean(1).double()
        groups = self.group_of_class[labels]
        # not index_add_, which adds in another order at every call on a GPU
        self.sums.index_put_((groups,), losses, accumulate=True)
        self.counts.index_put_((groups,), torch.ones_like(losses), accumulate=True)

    def counters(self) -> dict[str, torch.Tensor]:
        """Name → what was counted since the last call of :meth:`read`, which a checkpoint keeps."""
        return {"sums": self.sums, "counts": self.counts}

    def read(self) -> dict[str, JsonValue]:
        """Group → mean over all processes since the last call, None for a group that was not seen."""
        sums, counts = (total(each).tolist() for each in (self.sums, self.counts))
        pairs = list(zip(self.groups, sums, counts, strict=True))
        self.sums.zero_()
        self.counts.zero_()
        return {group: total / count if count else None for group, total, count in pairs}


def backward(
    parts: Sequence[Batch],
    backbone: Backbone,
    method: Method[MethodSettings],
    group_loss: GroupLoss,
    precision: Precision,
    placement: Placement,
    leave_tokens_out: Callable[[Batch], None],
) -> torch.Tensor:
    """Return the mean loss of this process's samples of a step, and leave its gradient in the parameters."""
    mean_loss, surgery = parts[0].latents.new_zeros(()), method.surgery()
    apart = None if surgery is None else GroupGradients(surgery, list(method.parameters().values()), len(parts))
    for number, part in enumerate(parts, 1):
        leave_tokens_out(part)
        with placement.passes(is_last=apart is None and number == len(parts)):
            with autocast(precision, part.latents.device):  # also for the forward passes that a loss makes
                with method.condition(part.condition):
                    prediction = backbone.predict(part.noisy, part.condition.timesteps, part.condition.prompts)
                prediction = prediction.to(part.target)
                losses = method.losses(part, prediction)  # (B,)
                auxiliary = method.auxiliary_loss(part, prediction)
            losses = losses if part.weights is None else losses * part.weights
            loss = losses.mean() if auxiliary is None else losses.mean() + auxiliary
            if apart is None:
                (loss / len(parts)).backward()
            else:
                apart.add(part, losses, auxiliary)
        mean_loss += loss.detach() / len(parts)
        group_loss.add(part.condition.labels, prediction, part.target)
    if apart is None:
        agree()  # a process whose passes failed does not exchange its gradients
        placement.finish_gradients()
    else:
        apart.finish(placement, parts[0].generator)
    return mean_loss
