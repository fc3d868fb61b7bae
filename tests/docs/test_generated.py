"""What the documentation says of the code itself is up to date."""

import os
import subprocess
import sys

import pytest

from .pages import ROOT

pytest.importorskip("grimp", reason="comes with import-linter")


def test_what_is_written_from_the_code_is_up_to_date():
    """In a process of its own, where ``baselines`` and ``tasks`` are the packages, not the folders of their tests."""
    command = [sys.executable, "-m", "docs.generated", "--check"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), "make graph writes them"
