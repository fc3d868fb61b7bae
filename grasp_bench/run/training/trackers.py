"""Experiment trackers beside the training log, through accelerate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import JsonValue

from grasp_bench.errors import UserError, did_you_mean
from grasp_bench.io import flattened

PROJECT = "grasp-bench"
NAMED = {"wandb": "name", "trackio": "name", "mlflow": "run_name"}
"""Tracker → its argument for the name of a run."""

Log = Callable[[dict[str, float], int], None]


def check_trackers(names: Sequence[str]) -> None:
    """Raise :class:`UserError` for a tracker that accelerate does not know or that is not installed."""
    if not names:
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    available = [str(tracker) for tracker in get_available_trackers()]
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            known = ", ".join(LOGGER_TYPE_TO_CLASS)
            raise UserError(f"--tracker {name}: unknown.{did_you_mean(name, LOGGER_TYPE_TO_CLASS)} There are: {known}.")
        if name not in available:
            raise UserError(f"--tracker {name}: its package is not installed here: pip install {name}.")


@contextmanager
def tracking(names: Sequence[str], folder: Path, run: str, settings: dict[str, JsonValue]) -> Iterator[Log]:
    """Yield a function that logs values at a step; trackers that write files write them below ``folder``."""
    if not names:
        yield lambda values, step: None
        return
    from accelerate import Accelerator

    accelerator = Accelerator(mixed_precision="no", log_with=list(names), project_dir=folder)
    options = {name: {NAMED[name]: run} for name in names if name in NAMED}
    accelerator.init_trackers(PROJECT, {"run": run} | _plain(settings), options)
    try:
        yield lambda values, step: accelerator.log(values, step=step)
    finally:
        for tracker in accelerator.trackers:  # end_training would leave the other processes, too
            tracker.finish()


def _plain(settings: dict[str, JsonValue]) -> dict[str, str | float]:
    """Return nested settings as one level of numbers and strings, which every tracker accepts."""
    flat = flattened(settings, "/")
    return {name: value if isinstance(value, int | float | str) else str(value) for name, value in flat.items()}
