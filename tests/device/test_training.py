"""A training step of every method on every family, as if on a GPU: nothing is left on the host, and hardly one waits.

Most pairs are tried with the suite of every family alone, the others with the slow tests. Something on the wrong device
is an error of the simulated GPU as it is of a real one.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.spread import spread

from grasp_bench.estimate.errors import SkippedError
from grasp_bench.estimate.steps import TrainingStep, training_steps
from grasp_bench.estimate.subject import Subject

from . import limits
from .cases import METHODS, marks, subject
from .tiny import PIPELINES

IMAGES = 4
QUICK = {("sd3", "grasp", "bfloat16"), ("pixart", "moe", "float32")}
EVERY = [(family, method, "bfloat16") for family in PIPELINES for method in METHODS]
SPREAD = [(*pair, "bfloat16") for pair in spread(sorted(PIPELINES), METHODS, ("grasp", "lora", "vanilla-ft"))]
IN_FLOAT32 = [("dit", method, "float32") for method in METHODS]
CASES = [
    pytest.param(*case, marks=marks(case, QUICK, [*SPREAD, *IN_FLOAT32]))
    for case in dict.fromkeys([*EVERY, *IN_FLOAT32, *sorted(QUICK)])
]


def second_step(chosen: Subject) -> TrainingStep:
    """The second of two training steps: what is sent to the GPU once is there by then."""
    return training_steps(chosen, (IMAGES, IMAGES))[1]


def check(step: TrainingStep, method: str) -> None:
    """Raise AssertionError for what a step on a GPU should not do, naming the places."""
    waits = step.passes.syncs + step.passes.uploads + step.update.syncs + step.update.uploads
    assert not waits
    assert not step.batch.syncs
    assert not step.batch.uploads
    double = step.batch.float64 + step.passes.float64 + step.update.float64
    ours = {place: count for place, count in double.items() if not place.startswith("diffusers")}
    assert not ours or method in limits.DOUBLE


@pytest.mark.parametrize(("family", "method", "precision"), CASES)
def test_a_step_stays_on_the_device(family: str, method: str, precision: str, tmp_path: Path) -> None:
    try:
        step = second_step(subject(family, tmp_path, method, precision))
    except SkippedError as reason:
        pytest.skip(str(reason))
    check(step, method)
    assert step.parameters > 0
    assert step.passes.flops > 0
