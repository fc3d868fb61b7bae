"""How far estimates were from what a GPU took, by the file that ``make gpu-check`` writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grasp_bench.io import read_object

GPU_CHECK = Path(__file__).parents[2] / "results/perf/gpu-check.json"
"""Where ``make gpu-check`` leaves what it measured: in the checkout that it measured, wherever a command is given."""


def said(path: Path = GPU_CHECK) -> str:
    """Return one sentence on the errors of estimates that a file has; that none were measured where it has none.

    Raises :class:`~grasp_bench.errors.UserError` for a file that is no JSON.
    """
    found = read_object(path).get("measures", []) if path.exists() else []
    kinds = {kind: [each for each in found if each.get("kind") == kind] for kind in ("memory", "time")}
    on_gpus = sorted({str(each["device"]) for measures in kinds.values() for each in measures} - {"cpu"})
    if not on_gpus:
        return "Estimates have not been compared with a GPU here: `make gpu-check` does it."
    parts = ", ".join(f"{kind} {_range(measures)}" for kind, measures in kinds.items() if measures)
    return f"Measured on {', '.join(on_gpus)}, against the estimate: {parts} ({path})."


def _range(measures: list[Mapping[str, Any]]) -> str:
    values = [float(each["value"]) for each in measures]
    return f"{min(values):+.0%} to {max(values):+.0%}"
