"""GPUs, by what decides how long a run takes on them and whether it fits."""

from __future__ import annotations

from dataclasses import dataclass

from grasp_bench.contracts.spec import Precision
from grasp_bench.errors import UserError, did_you_mean

GIB = 2**30
CONTEXT = 0.6 * GIB
"""Bytes that CUDA's context and the workspaces of libraries take."""
LEAST, MOST = 0.001, 1_000_000
"""Numbers of a GPU are between these: GiB, TFLOP/s and GB/s."""
FRAGMENTED = 0.05
"""Share of the memory that is left to the allocator's gaps."""


@dataclass(frozen=True)
class Device:
    """One GPU."""

    name: str
    memory: float
    """GiB, as torch reports them."""
    tflops: float
    """TFLOP/s of dense products in bfloat16 that are summed in float32."""
    bandwidth: float
    """GB/s of its memory."""

    @property
    def usable(self) -> float:
        """Bytes that a run may hold."""
        return self.memory * GIB * (1 - FRAGMENTED) - CONTEXT

    def seconds(self, flops: float, traffic: float, precision: Precision, utilisation: float) -> float:
        """Return how long some work takes: as its products do at ``utilisation``, or as its memory does if longer.

        Products in float32 run at half the rate, as in TF32.
        """
        rate = self.tflops * 1e12 * (1 if precision == "bfloat16" else 0.5)
        return max(flops / (rate * utilisation), traffic / (self.bandwidth * 1e9))


DEVICES = {
    each.name: each
    for each in (
        Device("h100-80gb", 79.1, 989, 3350),
        Device("a100-80gb", 79.1, 312, 2039),
        Device("a100-40gb", 39.4, 312, 1555),
        Device("rtx4090", 23.5, 165, 1008),
    )
}
"""The SXM cards and the GeForce, by NVIDIA's data sheets."""

CARDS = {
    "H200 NVL": (835, 4800),
    "H200": (989, 4800),
    "H100 NVL": (835, 3900),
    "H100 PCIe": (756, 2000),
    "H100": (989, 3350),
    "A100": (312, 1555),
    "RTX 4090": (165, 1008),
}
"""Part of a card's name as torch says it → TFLOP/s and GB/s by NVIDIA's data sheets; the first that fits counts."""
A100_OF_80_GB = (60, 2039)
"""GiB above which an A100 is the one whose memory is faster, and its GB/s."""


def of_card(name: str, memory: float) -> Device | None:
    """Return the card that torch names so, with ``memory`` GiB; None for one whose speed is not known here.

    Its own name is what :func:`parse_device` takes.
    """
    known = next((rates for part, rates in CARDS.items() if part in name), None)
    if known is None:
        return None
    tflops, bandwidth = known
    if "A100" in name and memory > A100_OF_80_GB[0]:
        bandwidth = A100_OF_80_GB[1]
    return Device(f"{memory:.1f},{tflops},{bandwidth}", memory, tflops, bandwidth)


def parse_device(text: str) -> Device:
    """Return the GPU that is named, or given as ``GiB,TFLOPs,GB/s``. Raises :class:`UserError` for neither."""
    if text in DEVICES:
        return DEVICES[text]
    try:
        memory, tflops, bandwidth = (float(each) for each in text.split(","))
    except ValueError as error:
        known = ", ".join(DEVICES)
        raise UserError(
            f"--gpu {text}: expected one of {known}, or its memory in GiB, TFLOP/s in bfloat16 and GB/s of memory, as "
            f"in 80,989,3350.{did_you_mean(text, DEVICES)}"
        ) from error
    if not all(LEAST <= each <= MOST for each in (memory, tflops, bandwidth)):  # so is none that is NaN
        raise UserError(f"--gpu {text}: expected three numbers from {LEAST:g} to {MOST:,}.")
    return Device(text, memory, tflops, bandwidth)
