"""The estimate of all the runs of a sweep."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from grasp_bench.errors import UserError
from grasp_bench.estimate.ahead import SHARDED
from grasp_bench.estimate.devices import Device
from grasp_bench.estimate.errors import NotEstimatedError, SkippedError
from grasp_bench.estimate.estimate import Estimate, Total, estimate, total
from grasp_bench.estimate.memory import Manner
from grasp_bench.estimate.subject import choose
from grasp_bench.sweep.cells import Choice, read_choices


@dataclass(frozen=True)
class SweepEstimate:
    """What a sweep takes."""

    groups: list[tuple[Estimate, list[str]]]
    """Estimates with the seeds that share them."""
    skipped: list[str]
    """Why runs that the sweep names would be skipped."""
    left_out: dict[str, int]
    """Why runs have no estimate → how many of them."""
    total: Total


def estimate_sweep(path: Path, device: Device, utilisation: float, resolution: int | None) -> SweepEstimate:
    """Return the estimates of the runs that a TOML file asks for, finished ones included.

    ``resolution`` takes precedence over the file's, and its ``[options]`` say how each run is carried out. Settings
    that a search has found are not looked up: they hardly change what a run takes. Raises
    :class:`~grasp_bench.errors.UserError` for what cannot be run, and :class:`NotEstimatedError` where no run has an
    estimate.
    """
    config, choices = read_choices(path)
    options = config.options
    if options.shard:
        raise UserError(f"{path}: [options] shard: {SHARDED}. A copy of the file without it has the hours.")
    manner = Manner(options.accumulate, options.gradient_checkpointing, options.processes or 1, options.batch_size)
    seeds: dict[Choice, list[str]] = {}
    for choice in choices:
        seeds.setdefault(replace(choice, seed=""), []).append(choice.seed)
    groups: list[tuple[Estimate, list[str]]] = []
    skipped: list[str] = []
    left_out: dict[str, int] = {}
    for choice, of_choice in seeds.items():
        named = str(choice).partition(", seed")[0]
        try:
            subject = choose(
                choice.method,
                choice.task,
                choice.backbone,
                guidance=choice.guidance,
                budget=config.budget,
                resolution=resolution or config.resolution,
                method_settings=choice.set,
                task_settings=choice.task_set,
                guidance_settings=choice.guidance_set,
            )
            groups.append((estimate(subject, device, utilisation, manner=manner), of_choice))
        except SkippedError as reason:
            skipped.append(f"{named}: {reason}")
        except NotEstimatedError as reason:
            left_out[f"{named}: {reason}"] = len(of_choice)
    if left_out and not groups:
        raise NotEstimatedError(f"{path}: no run has an estimate. {' '.join(left_out)}")
    runs = [(found, seed) for found, of_choice in groups for seed in of_choice]
    return SweepEstimate(groups, skipped, left_out, total(runs))
