"""The environment of a run: versions of packages, device, peak memory."""

from __future__ import annotations

import contextlib
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from grasp_bench.contracts.record import Environment

if TYPE_CHECKING:
    import torch

PACKAGES = ("grasp-bench", "torch", "diffusers", "peft", "numpy", "scipy", "scikit-learn", "vendi-score")
SOURCES = ("grasp_bench", "baselines", "tasks", "pyproject.toml")


def describe(device: torch.device, processes: int = 1, accumulate: int = 1) -> Environment:
    """Return the environment as a record holds it, without names of hosts or folders."""
    import torch

    commit, dirty = _git_state()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return Environment(
        versions={"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
        platform=f"{platform.system()} {platform.machine()}",
        cpu_instructions=torch.backends.cpu.get_cpu_capability(),
        device=name,
        threads=torch.get_num_threads(),
        processes=processes,
        accumulate=accumulate,
        git_commit=commit,
        git_dirty=dirty,
    )


def card(device: torch.device) -> tuple[str, float] | None:
    """Return a GPU's name and its memory in GiB; None for a CPU."""
    import torch

    if device.type != "cuda":
        return None
    found = torch.cuda.get_device_properties(device)
    return found.name, found.total_memory / 2**30


def reset_peak_memory(device: torch.device) -> None:
    """Begin to measure :func:`peak_mib` from here; on a CPU elsewhere than on Linux it stays that of the process."""
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, see proc(5)


def peak_mib(device: torch.device) -> float:
    """Peak memory since it was last reset, in MiB: the GPU's allocations, or the process's resident set on a CPU."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) / 1024
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # of the process's whole life, in kB or, on macOS, B
    return peak / (2**20 if sys.platform == "darwin" else 1024)


def _git_state() -> tuple[str | None, bool | None]:
    """Return the commit of the checkout that the project runs from, and whether its sources differ; else Nones."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None, None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit, bool(_git(root, "status", "--porcelain", "--", *SOURCES))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", root, *arguments], check=True, capture_output=True, text=True).stdout.strip()
