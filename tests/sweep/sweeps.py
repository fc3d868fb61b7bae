"""Sweeps of a few small runs, and a third-party method that is slow, or fails on demand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console

from grasp_bench import plugins
from grasp_bench.cli.status import status
from grasp_bench.cli.sweep import sweep
from grasp_bench.contracts.progress import Progress

HEADER = 'methods = ["grasp"]\ntasks = ["digits-lt"]\nseeds = [0]\n'
OPTIONS = '[options]\ndevice = "cpu"\nbatch_size = 20\nlog_every = 2\ncheckpoint_minutes = 0\n'
PLUGIN = '''
import time

from pydantic import Field

from grasp_bench.baselines.grasp import Grasp, GraspSettings


class ProbeSettings(GraspSettings):
    seconds: float = Field(default=0.0, ge=0)
    """Added to every step"""
    fails_at: int = -1
    """The step that fails"""


class Probe(Grasp):
    """GRASP that takes its time, or fails"""

    Config = ProbeSettings
    version = "1"
    paper = "none"
    steps = 0

    def losses(self, batch, prediction):
        time.sleep(self.config.seconds)
        if self.steps == self.config.fails_at:
            raise RuntimeError("the probe failed, as it was told to")
        self.steps += 1
        return super().losses(batch, prediction)
'''

app = typer.Typer()
app.command("sweep")(sweep)
app.command("status")(status)


def install_probe(folder: Path, monkeypatch) -> None:
    """Make the method ``probe`` known to this process and to those it starts."""
    folder.mkdir(exist_ok=True)
    (folder / "probe_method.py").write_text(PLUGIN)
    info = folder / "probe_method-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: probe-method\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[grasp_bench.methods]\nprobe = probe_method:Probe\n")
    monkeypatch.syspath_prepend(folder)
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *([before] if before else [])]))
    plugins._claims.cache_clear()


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def silent() -> Progress:
    return Progress(Console(quiet=True))


def call(*arguments: str | Path) -> int:
    """Exit code of `grasp-bench` with ``arguments``, in this process."""
    try:
        return app([str(each) for each in arguments], standalone_mode=False) or 0
    except typer.Exit as stop:
        return stop.exit_code


@contextmanager
def begun(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """`grasp-bench` with ``arguments`` in a process of its own, which has stopped when the block ends."""
    command = [sys.executable, "-c", "from sweep.sweeps import app; app()", *map(str, arguments)]
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as it:
        try:
            yield it
        finally:
            it.terminate()


def wait_for(condition: Callable[[], object], seconds: float = 120, every: float = 0.2) -> None:
    """Wait until something is the case; a test that waits in vain fails."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(every)


def records(folder: Path) -> dict[str, dict]:
    """Label and seed, such as "grasp/seed-0" → record."""
    found = sorted(folder.glob("results/*/*/*/record.json"))
    return {"/".join(path.parts[-3:-1]): json.loads(path.read_text()) for path in found}


def step(folder: Path) -> int:
    """The newest checkpoint's, of the only training that is not finished."""
    found = folder.glob(".grasp-bench/train/*.partial/step-*.safetensors")
    return max((int(path.name[5:13]) for path in found), default=0)
