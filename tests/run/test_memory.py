"""No stage holds all generated images in memory: with ten times as many of them, none takes more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from run.measured_memory import SIDE

TESTS = Path(__file__).parents[1]
FEW, MANY = 2_000, 20_000
SHARE = 1 / 4
"""Of the bytes of the images that there are more, what a stage may take more: names and labels, and chance."""


def measured(images: int, folder: Path) -> dict[str, int]:
    """Stage → bytes, in a process of its own, whose memory no other test has filled."""
    folder.mkdir()
    command = [sys.executable, "-m", "run.measured_memory", str(images), str(folder)]
    environment = os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of a process")
def test_no_stage_holds_all_generated_images(tmp_path: Path) -> None:
    few, many = measured(FEW, tmp_path / "few"), measured(MANY, tmp_path / "many")
    print("\n".join(f"{name:20} {few[name] / 2**20:8.1f} {many[name] / 2**20:8.1f} MiB" for name in few))
    more = SHARE * (MANY - FEW) * 3 * SIDE * SIDE
    assert {"generate", "features", "classify-generated", "classify-topped-up", "score", "pictures"} <= few.keys()
    assert {name: taken for name, taken in many.items() if taken > few[name] + more} == {}
