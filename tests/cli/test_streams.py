"""What cannot be printed: signs that an encoding lacks, and a device that is full."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def listing(tmp_path: Path, to: object = subprocess.PIPE, **variables: str) -> subprocess.CompletedProcess[bytes]:
    words = [sys.executable, "-m", "grasp_bench", "list", "guidance"]
    environment = {**os.environ, **variables}
    return subprocess.run(words, stdout=to, stderr=subprocess.PIPE, cwd=tmp_path, env=environment, check=False)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_the_encoding_lacks_is_replaced(encoding: str, tmp_path: Path) -> None:
    found = listing(tmp_path, PYTHONIOENCODING=encoding)
    assert (found.returncode, found.stderr) == (0, b"")
    assert b"\n-----" in found.stdout
    assert b"cfg " in found.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_device_is_one_message(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        found = listing(tmp_path, full)
    assert found.returncode == 2
    assert found.stderr == b"error: what was to be printed cannot be written (No space left on device).\n"
