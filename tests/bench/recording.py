"""What a performance benchmark has measured: a table to read, and JSON under results/perf with where it was measured.

A benchmark stands beside this module and runs as ``PYTHONPATH=tests python -m bench.<name>``.
"""

from __future__ import annotations

import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from grasp_bench.cli.output import console
from grasp_bench.io import write_json

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results/perf"
TRIALS = ROOT / ".grasp-bench/perf"
"""For runs at small sizes, which show that a benchmark works and nothing else."""


@dataclass(frozen=True)
class Measure:
    """A number with what it should be."""

    name: str
    value: float
    unit: str
    method: str
    """What was timed, how often, and which of the repeats counts."""
    at_least: float | None = None
    at_most: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    """What the value was computed from; goes into JSON alone."""

    @property
    def target(self) -> dict[str, float]:
        """Those of ``at_least`` and ``at_most`` that are set."""
        return {name: end for name in ("at_least", "at_most") if (end := getattr(self, name)) is not None}

    @property
    def met(self) -> bool:
        """Whether the value is within its target."""
        target = self.target
        return target.get("at_least", -math.inf) <= self.value <= target.get("at_most", math.inf)

    def as_json(self) -> dict[str, Any]:
        """As it is written."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "target": self.target,
            "met": self.met,
            "method": self.method,
            **self.details,
        }


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that ``call`` takes, and what it returns."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def interleaved(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of ``repeats`` of every call, in turns, so that a busy spell of the machine falls on all."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            seconds[name].append(timed(call)[0])
    return seconds


def growth_exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """b of seconds = a · sizeᵇ, by least squares on the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def record(name: str, measures: Sequence[Measure], packages: Iterable[str], folder: Path) -> Path:
    """Write ``folder``/``name``.json with the machine and the versions of ``packages``, print it as a table."""
    path = folder / f"{name}.json"
    write_json(
        path,
        {
            "command": _command(),
            **environment_of(packages),
            "all_met": all(measure.met for measure in measures),
            "measures": [measure.as_json() for measure in measures],
        },
    )
    _show(name, measures)
    console().print(f"Written to {path.relative_to(ROOT)}")
    return path


def environment_of(packages: Iterable[str]) -> dict[str, Any]:
    """Machine, versions, threads and commit."""
    import torch
    from threadpoolctl import threadpool_info

    from grasp_bench.run.environment import describe

    found = describe(torch.device("cpu"))
    return {
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "ram_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
            "platform": found.platform,
        },
        "threads": {
            "torch": found.threads,
            # several libraries may each bring their own, as numpy and scipy do
            "blas": sorted({each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}),
        },
        "versions": found.versions | {package: version(package) for package in packages},
        "git_commit": found.git_commit,
        "git_clean": None if found.git_dirty is None else not found.git_dirty,
    }


def _command() -> str:
    """How the benchmark was called, without the machine's folders."""
    return " ".join([f"PYTHONPATH=tests python -m bench.{Path(sys.argv[0]).stem}", *sys.argv[1:]])


def _cpu() -> str:
    """Name of the processor's model: Linux alone tells it without a command."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")


def _show(name: str, measures: Iterable[Measure]) -> None:
    table = Table("measure", "target", "met", title=name)
    table.add_column("value", justify="right")
    for measure in measures:
        target = ", ".join(f"{name.replace('_', ' ')} {end:g}" for name, end in measure.target.items())
        met = ("yes" if measure.met else "no") if target else ""
        table.add_row(measure.name, target, met, f"{measure.value:,.4g} {measure.unit}")
    console().print(table)
