"""A training step of every method on every family, as if on a GPU: nothing is left on the host, nobody waits for long.

Something on the wrong device is an error of the simulated GPU as it is of a real one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from grasp_bench.estimate.parts import SkippedError
from grasp_bench.estimate.steps import TrainingStep, training_step

from . import limits
from .cases import METHODS, PRECISIONS, subject
from .tiny import PIPELINES

IMAGES = 4
QUICK = {("sd3", "grasp", "bfloat16"), ("pixart", "moe", "float32")}
CASES = [
    pytest.param(*case, marks=[] if case in QUICK else [pytest.mark.slow])
    for case in ((family, method, precision) for family in PIPELINES for method in METHODS for precision in PRECISIONS)
]


def allowed(family: str, method: str) -> int:
    """How often a step may wait."""
    most = limits.TRAINING + limits.OF_METHOD.get(method, 0)
    return most + limits.BY_DIFFUSION.get(method, 0) if family in ("dit", "pixart") else most


def check(step: TrainingStep, family: str, method: str) -> None:
    """Raise AssertionError for what a step on a GPU should not do, naming the places."""
    waits = step.passes.syncs + step.update.syncs
    assert waits.total() <= allowed(family, method), waits
    assert step.batch.syncs.total() <= (limits.BATCH_OF_DIFFUSION if family in ("dit", "pixart") else 0)
    assert not step.update.uploads
    double = step.batch.float64 + step.passes.float64 + step.update.float64
    ours = {place: count for place, count in double.items() if not place.startswith("diffusers")}
    assert not ours or method in limits.DOUBLE


@pytest.mark.parametrize(("family", "method", "precision"), CASES)
def test_a_step_stays_on_the_device(family: str, method: str, precision: str, tmp_path: Path) -> None:
    try:
        step = training_step(subject(family, tmp_path, method, precision), IMAGES)
    except SkippedError as reason:
        pytest.skip(str(reason))
    check(step, family, method)
    assert step.parameters > 0
    assert step.passes.flops > 0
