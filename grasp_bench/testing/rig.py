"""Where methods and guidances are tried: the embedded task, tiny backbones, the stages of a run for a few steps.

Everything is written to a temporary folder that is removed when the process ends; what several checks need, such as
prepared data, is made once.
"""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import JsonValue
from rich.console import Console

from grasp_bench.contracts.backbone import Backbone
from grasp_bench.contracts.method import Batch, Condition, Method, MethodSettings
from grasp_bench.contracts.progress import Advance, Progress
from grasp_bench.contracts.spec import SMOKE
from grasp_bench.errors import Skip
from grasp_bench.run.applies import why_not
from grasp_bench.run.files import TRAIN_SUMMARY
from grasp_bench.run.options import Options
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.plan import Plan, plan
from grasp_bench.testing.checks import NotApplicable, require
from grasp_bench.testing.compare import Anatomy, anatomy
from grasp_bench.testing.tiny_dit import TINY_DIT, save_dit

STEPS = 3
BUDGET = {
    "precision": "float32",
    "steps": STEPS,
    "batch_size": 8,
    "warmup_steps": 0,
    "images_per_class": 1,
    "num_inference_steps": 4,
}
MOVED = 0.05  # standard deviation of what is added to parameters, so that no adapter is idle
CPU = torch.device("cpu")
SILENT = Progress(Console(quiet=True))


class Interrupted(KeyboardInterrupt):
    """What ends a training before its last step."""


class Interrupting(Progress):
    """Ends the training once more than ``steps`` steps are done."""

    def __init__(self, steps: int) -> None:
        super().__init__(Console(quiet=True))
        self.steps = steps

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Advance]:
        """Like :meth:`Progress.task`, without showing anything; raises :class:`Interrupted` after enough steps."""

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if name == "train" and done > self.steps:
                raise Interrupted

        yield advance


@functools.cache
def scratch() -> Path:
    """The temporary folder of this process."""
    folder = Path(tempfile.mkdtemp(prefix="grasp-bench-check-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def source(backbone: str) -> str:
    """A backbone as ``--backbone`` takes it; the tiny DiT is made on its first use."""
    return f"dit:{save_dit(scratch() / TINY_DIT)}" if backbone == TINY_DIT else backbone


def planned(backbone: str, method: str, settings: Sequence[str] = (), **guidance: Any) -> Plan:
    """A run of a few steps on the embedded task."""
    found = plan(
        method=method, task="digits-lt", budget=SMOKE, backbone=source(backbone), method_settings=settings, **guidance
    )
    return replace(found, spec=found.spec.model_copy(update={"budget": found.spec.budget.model_copy(update=BUDGET)}))


def refuse(skip: object) -> None:
    """Raise :class:`NotApplicable` if supports() of a plugin gives a Skip."""
    require(skip is None or isinstance(skip, Skip), f"supports() gives {skip!r}, expected None or a Skip")
    if isinstance(skip, Skip):
        raise NotApplicable(skip.reason)


class Watched(Pipeline):
    """The stages of a run, of which is kept what the network was before and after the method was attached."""

    base: Anatomy
    start: Anatomy
    detaches = True
    network: Backbone
    """The backbone that the method is attached to, also once training has let go of it."""

    def __init__(self, plan: Plan, progress: Progress = SILENT, work: str = "work", batch_size: int = 100) -> None:
        options = Options(scratch() / "results", scratch() / work, "cpu", batch_size, log_every=1, checkpoint_minutes=0)
        super().__init__(plan, options, CPU, progress)

    @property
    def method(self) -> Method[MethodSettings]:
        """The method of the run."""
        return self.plan.method

    def refuse(self) -> None:
        """Raise :class:`NotApplicable` where the method says that it does not apply here."""
        refuse(why_not(self.backbone, self.plan.task, self.method))

    def attach(self) -> set[torch.nn.Parameter]:
        self.network = self.backbone
        self.base = anatomy(self.network.transformer)
        added = super().attach()
        self.start = anatomy(self.network.transformer)
        return added

    def forget(self, stage: str) -> None:
        """Remove what a stage left, finished or not."""
        folder = self.store.folder(stage, self.inputs[stage])
        for path in (folder, folder.with_suffix(".partial")):
            shutil.rmtree(path, ignore_errors=True)

    def summary(self) -> dict[str, Any]:
        """What the training left beside the weights."""
        return dict(json.loads((self.trained / TRAIN_SUMMARY).read_text()))

    @functools.cached_property
    def batch(self) -> Batch:
        """One image of each class at a time of its own, every third with its prompt dropped, for an attached method."""
        split, objective = self.data.train, self.network.objective
        indices = np.unique(split.labels, return_index=True)[1]
        generator = torch.Generator().manual_seed(0)
        latents = self.latents.read(indices, np.zeros(len(indices), bool))
        noise = torch.randn(latents.shape, generator=generator)
        timesteps = objective.timesteps(len(indices), generator)
        dropped = torch.arange(len(indices)) % 3 == 1
        prompts = self.embed([split.prompts[index] for index in indices]).where(~dropped, self.embed([""]))
        clusters = self.method.training_clusters(split)
        return Batch(
            ids=[split.ids[index] for index in indices],
            latents=latents,
            noise=noise,
            noisy=objective.add_noise(latents, noise, timesteps),
            target=objective.target(latents, noise, timesteps),
            condition=Condition(
                labels=torch.from_numpy(split.labels[indices]),
                dropped=dropped,
                prompts=prompts.to(latents),
                timesteps=timesteps,
                clusters=None if clusters is None else torch.from_numpy(clusters)[indices],
            ),
            generator=generator,
            digest=b"",
            embed=self.embed,
        )

    def predict(self, condition: Condition | None = None, rows: slice = slice(None)) -> torch.Tensor:
        """The prediction for ``rows`` of the batch: in the context of their own condition, or of another."""
        with self.method.condition(condition or self.batch.condition[rows]):
            return predict(self.network, self.batch, rows)

    def gradients(self) -> dict[str, torch.Tensor]:
        """Name of a parameter → the gradient of the method's loss, of those that have one."""
        prediction = self.predict()
        loss = self.method.losses(self.batch, prediction).mean()
        auxiliary = self.method.auxiliary_loss(self.batch, prediction)
        (loss if auxiliary is None else loss + auxiliary).backward()
        named = self.method.parameters()
        return {name: parameter.grad for name, parameter in named.items() if parameter.grad is not None}

    @torch.no_grad()
    def move(self) -> Watched:
        """Itself, with parameters that are no longer what they began as."""
        generator = torch.Generator().manual_seed(1)
        for parameter in self.method.parameters().values():
            parameter.add_(MOVED * torch.randn(parameter.shape, generator=generator))
        return self


@dataclass
class Subject:
    """A method with its settings on a backbone, as often as checks need it."""

    name: str
    settings: tuple[str, ...]
    backbone: str

    def run(self, progress: Progress = SILENT, work: str = "work") -> Watched:
        """The stages of a run. Raises :class:`NotApplicable` where the method does not support the backbone."""
        run = Watched(planned(self.backbone, self.name, self.settings), progress, work)
        run.refuse()
        return run

    @torch.enable_grad()
    def attach(self, studied: dict[str, JsonValue] | None = None) -> Watched:
        """The method with its initial weights on a fresh backbone, and the batch.

        ``studied`` is what the method found out before, in the place of a study of its own.
        """
        run = self.run()
        if studied is not None:
            run.studied = studied
        run.attach()
        run.network.transformer.eval()
        _ = run.batch
        return run

    @torch.enable_grad()
    def train(self) -> Watched:
        """The method after a training of its own, and the batch."""
        run = self.run()
        run.forget("train")
        _ = run.trained, run.batch
        return run

    @functools.cached_property
    def trained(self) -> Watched:
        """The method after a training; what uses it leaves it as it is."""
        return self.train()


def predict(backbone: Backbone, batch: Batch, rows: slice = slice(None)) -> torch.Tensor:
    """The backbone's prediction (B, ...) for ``rows`` of a batch, in whatever context this is called."""
    condition = batch.condition[rows]
    return backbone.predict(batch.noisy[rows], condition.timesteps, condition.prompts)
