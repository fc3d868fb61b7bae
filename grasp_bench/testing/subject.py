"""A method on a backbone, as often as checks need it: attached afresh, or trained for a few steps."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from grasp_bench.contracts.backbone import Backbone
from grasp_bench.contracts.method import Batch, Condition, Method, MethodSettings
from grasp_bench.contracts.progress import Progress
from grasp_bench.testing.rig import SILENT, WORK, Watched, planned

MOVED = 0.05  # standard deviation of what is added to parameters, so that no adapter is idle


@dataclass(frozen=True)
class Attached:
    """A method on a backbone, and samples of every class."""

    run: Watched
    batch: Batch

    @property
    def backbone(self) -> Backbone:
        """What the method is attached to."""
        return self.run.network

    @property
    def method(self) -> Method[MethodSettings]:
        """The method, attached."""
        return self.run.method

    def predict(self, condition: Condition | None = None, rows: slice = slice(None)) -> torch.Tensor:
        """The prediction for ``rows`` of the batch: in the context of their own condition, or of another."""
        own = self.batch.condition[rows]
        with self.method.condition(condition or own):
            return predict(self.backbone, self.batch, rows)

    def gradients(self) -> dict[str, torch.Tensor]:
        """Name of a parameter → the gradient of the method's loss, of those that have one."""
        prediction = self.predict()
        loss, auxiliary = (
            self.method.losses(self.batch, prediction).mean(),
            self.method.auxiliary_loss(self.batch, prediction),
        )
        (loss if auxiliary is None else loss + auxiliary).backward()
        named = self.method.parameters()
        return {name: parameter.grad for name, parameter in named.items() if parameter.grad is not None}

    @torch.no_grad()
    def move(self) -> Attached:
        """Itself, with parameters that are no longer what they began as."""
        generator = torch.Generator().manual_seed(1)
        for parameter in self.method.parameters().values():
            parameter.add_(MOVED * torch.randn(parameter.shape, generator=generator))
        return self


class Subject:
    """A method with its settings on a backbone."""

    def __init__(self, name: str, settings: tuple[str, ...], backbone: str) -> None:
        self.name, self.settings, self.backbone = name, settings, backbone

    def run(self, progress: Progress = SILENT, work: str = WORK) -> Watched:
        """The stages of a run. Raises :class:`NotApplicable` where the method does not support the backbone."""
        run = Watched(planned(self.backbone, self.name, self.settings), progress, work)
        run.refuse()
        return run

    @torch.enable_grad()
    def attach(self) -> Attached:
        """The method with its initial weights on a fresh backbone."""
        run = self.run()
        run.attach()
        run.network.transformer.eval()
        return Attached(run, run.every_class())

    @torch.enable_grad()
    def train(self) -> Attached:
        """The method after a training of its own."""
        run = self.run()
        run.train_anew()
        return Attached(run, run.every_class())

    @functools.cached_property
    def trained(self) -> Attached:
        """The method after a training; what uses it leaves it as it is."""
        return self.train()


def predict(backbone: Backbone, batch: Batch, rows: slice = slice(None)) -> torch.Tensor:
    """The backbone's prediction (B, ...) for ``rows`` of a batch, in whatever context this is called."""
    condition = batch.condition[rows]
    return backbone.predict(batch.noisy[rows], condition.timesteps, condition.prompts)
