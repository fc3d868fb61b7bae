"""How fast a device multiplies, by its data sheet's peak, and what its time goes into."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from grasp_bench.estimate.devices import Device

from .recording import Measure

UNKNOWN = "unknown card: not divided"


def share_of_peak(name: str, rate: float, peak: Device | None, method: str, details: Mapping[str, Any]) -> Measure:
    """Return FLOP/s as a share of the card's peak; undivided, which its unit says, where the peak is not known."""
    tflops = rate / 1e12
    if peak is None:
        details = {**details, "tflops": tflops, "share_of_peak": UNKNOWN}
        return Measure(f"{name}: products", tflops, f"TFLOP/s; {UNKNOWN}", method, details=details)
    share = tflops / peak.tflops
    details = {**details, "tflops": tflops, "share_of_peak": share}
    return Measure(f"{name}: share of peak", share, f"of {peak.tflops:g} TFLOP/s", method, details=details)


def top_ten(call: Callable[[], None]) -> list[dict[str, Any]]:
    """The operations that most of the time goes into."""
    from torch.profiler import ProfilerActivity, profile

    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    with profile(activities=kinds) as profiler:
        call()
    spent = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    found = sorted(profiler.key_averages(), key=lambda each: -getattr(each, spent))[:10]
    return [{"name": each.key, "calls": each.count, "ms": getattr(each, spent) / 1000} for each in found]
