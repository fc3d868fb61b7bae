"""Sampling under every guidance, with every method, as if on a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.spread import spread

from grasp_bench.estimate.errors import SkippedError
from grasp_bench.estimate.steps import SamplingStep, sampling_steps

from . import limits
from .cases import GUIDANCES, METHODS, learned, marks, subject
from .tiny import PIPELINES

IMAGES = 2
STEPS = {"gfcg": 3}
"""Guidance → steps, of one that loads the autoencoder for its second step; 2 for all others."""
LEARNED_FOR_STEPS = {"linear-ag"}
"""Guidances that sample in as many steps as they learned for, and in no others."""
QUICK = {("sd3", "grasp", "cfg", "bfloat16")}
EVERY = [(family, "lora", guidance, "bfloat16") for family in PIPELINES for guidance in GUIDANCES]
"""Every guidance on every family, with one method."""
SPREAD = [(family, "lora", guidance, "bfloat16") for family, guidance in spread(sorted(PIPELINES), GUIDANCES, ("cfg",))]
"""Every guidance on one family, and one on all."""
ROUTED = [("sana", "grasp", guidance, "bfloat16") for guidance in GUIDANCES]
"""Every guidance with a method that routes."""
OF_METHODS = [("pixart", method, "cfg", "bfloat16") for method in METHODS]
"""Every method under one guidance."""
IN_FLOAT32 = [(family, "lora", "cfg", "float32") for family in PIPELINES]
"""Every family in float32."""
CASES = [
    pytest.param(*case, marks=marks(case, QUICK, [*SPREAD, *ROUTED, *OF_METHODS, *IN_FLOAT32]))
    for case in dict.fromkeys([*EVERY, *ROUTED, *OF_METHODS, *IN_FLOAT32])
]


@pytest.mark.parametrize(("family", "method", "guidance", "precision"), CASES)
def test_sampling_stays_on_the_device(
    family: str, method: str, guidance: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = subject(family, tmp_path, method, precision, guidance)
    try:
        with learned(monkeypatch) as folder:
            steps = STEPS.get(guidance, 2)
            counts = ((steps - 1,), (steps,)) if guidance in LEARNED_FOR_STEPS else ((steps - 1, steps),)
            found = []
            for each in counts:
                monkeypatch.setattr(type(chosen.guidance), "steps", lambda guidance, budget, each=each: each[-1])
                found += sampling_steps(chosen, IMAGES, each, learned=folder)
    except SkippedError as reason:
        pytest.skip(str(reason))
    check(*found, method, guidance)


def check(few: SamplingStep, more: SamplingStep, method: str, guidance: str) -> None:
    """Raise AssertionError for what a step on a GPU should not do; ``more`` are one step more than ``few``."""
    waits = (more.taken.syncs + more.taken.uploads) - (few.taken.syncs + few.taken.uploads)
    assert waits.total() <= limits.SAMPLING.get(guidance, 0), waits
    ours = {place: count for place, count in more.taken.float64.items() if not place.startswith("diffusers")}
    assert not ours or guidance in limits.DOUBLE or method in limits.DOUBLE
    assert more.taken.flops > few.taken.flops
