"""Sampling under every guidance, with every method, as if on a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from grasp_bench.estimate.parts import SkippedError
from grasp_bench.estimate.steps import sampling_step

from . import limits
from .cases import GUIDANCES, METHODS, PRECISIONS, learned, subject
from .tiny import PIPELINES

IMAGES, STEPS = 2, 3
QUICK = {("sd3", "grasp", "cfg", "bfloat16")}
EVERYWHERE = [
    (family, "grasp", guidance, precision) for family in PIPELINES for guidance in GUIDANCES for precision in PRECISIONS
]
"""Every guidance on every family in every precision, with one method."""
TOGETHER = [("sd3", method, guidance, "bfloat16") for method in METHODS for guidance in GUIDANCES]
"""Every guidance with every method, on one family."""
OF_METHODS = [
    (family, method, "cfg", precision) for family in PIPELINES for method in METHODS for precision in PRECISIONS
]
"""Every method on every family in every precision, under one guidance."""
CASES = [
    pytest.param(*case, marks=[] if case in QUICK else [pytest.mark.slow])
    for case in dict.fromkeys([*EVERYWHERE, *TOGETHER, *OF_METHODS])
]


@pytest.mark.parametrize(("family", "method", "guidance", "precision"), CASES)
def test_sampling_stays_on_the_device(
    family: str, method: str, guidance: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = subject(family, tmp_path, method, precision, guidance)
    found = []
    try:
        with learned(monkeypatch) as folder:
            for steps in (STEPS - 1, STEPS):
                monkeypatch.setattr(type(chosen.guidance), "steps", lambda guidance, budget, steps=steps: steps)
                found.append(sampling_step(chosen, IMAGES, steps, learned=folder))
    except SkippedError as reason:
        pytest.skip(str(reason))
    few, more = found
    passes = -(-(more.evaluations - few.evaluations) // IMAGES)
    routed = limits.OF_ROUTE if limits.OF_METHOD.get(method) == limits.OF_ROUTE else 0
    waits = more.taken.syncs - few.taken.syncs
    assert waits.total() <= limits.SAMPLING + passes * routed + limits.OF_GUIDANCE.get(guidance, 0), waits
    ours = {place: count for place, count in more.taken.float64.items() if not place.startswith("diffusers")}
    assert not ours or guidance in limits.DOUBLE or method in limits.DOUBLE
    assert more.taken.flops > few.taken.flops
