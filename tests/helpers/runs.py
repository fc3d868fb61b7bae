"""Runs that take a few seconds."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.record import RunRecord
from grasp_bench.contracts.task import ClassifierRecipe
from grasp_bench.extractors import digits_cnn
from grasp_bench.run.options import Options
from grasp_bench.run.plan import Plan, plan
from grasp_bench.run.runner import run
from grasp_bench.tasks.digits_lt import DigitsLT

if TYPE_CHECKING:
    import torch

METHODS = ("vanilla-ft", "lora", "moe", "grasp", "shared-adapter")
ONE_EPOCH = ClassifierRecipe(epochs=1, batch_size=64, learning_rate=2e-3)


@contextmanager
def quick() -> Iterator[None]:
    """Train classifiers for one epoch inside the block, where how good they are does not matter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DigitsLT, "classifier", ONE_EPOCH)
        patch.setattr(digits_cnn, "RECIPE", ONE_EPOCH)
        yield


def small(method: str = "grasp", **changes) -> Plan:
    return plan(**{"method": method, "task": "digits-lt", "budget": "smoke"} | changes)


def options(folder: Path, **changes) -> Options:
    return Options(
        folder / "results",
        folder / "work",
        **{"device": "cpu", "batch_size": 20, "log_every": 4, "checkpoint_minutes": 0} | changes,
    )


class Listener(Progress):
    """Keeps what the user would have been told."""

    def __init__(self) -> None:
        self.buffer = io.StringIO()
        super().__init__(Console(file=self.buffer, width=1000))

    @property
    def said(self) -> str:
        return self.buffer.getvalue()


def finish(folder: Path, chosen: Plan, progress: Progress | None = None, **changes) -> RunRecord:
    return run(chosen, options(folder, **changes), progress or Listener())[1]


def train_only(folder: Path, chosen: Plan, progress: Progress | None = None, **changes) -> Path:
    """The folder of the finished training."""
    import torch

    from grasp_bench.run.pipeline import Pipeline

    trained = Pipeline(chosen, options(folder, **changes), torch.device("cpu"), progress or Listener()).trained
    assert isinstance(trained, Path)
    return trained


def outcome(record: RunRecord) -> dict:
    """All of a record that must not depend on when, where and in how many attempts the run was made."""
    assert record.status == "finished"
    return record.model_dump(include={"run_id", "stages", "streams", "weights", "scores", "diagnostics"})


def log_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def fail_at_step(patch: pytest.MonkeyPatch, step: int, what: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Pass the transformer's output at ``step`` of the training, counted from 0, through ``what``."""
    predict, calls = TinySD3.predict, itertools.count()

    def failing(self, *arguments):
        output = predict(self, *arguments)
        return what(output) if next(calls) == step else output

    patch.setattr(TinySD3, "predict", failing)


def interrupt(output: torch.Tensor) -> torch.Tensor:
    raise KeyboardInterrupt


def stop_at_step(folder: Path, chosen: Plan, step: int) -> None:
    """Train, and press Ctrl-C at ``step``."""
    with pytest.MonkeyPatch.context() as patch:
        fail_at_step(patch, step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_only(folder, chosen)
