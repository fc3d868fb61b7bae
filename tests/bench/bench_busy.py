"""How much longer a run of the demo takes beside a process that keeps every core busy, with one thread and with more.

``PYTHONPATH=tests python -m bench.bench_busy`` writes results/perf/busy.json and takes seven minutes on two cores;
``--quick`` tries it on a smoke run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from .recording import RESULTS, TRIALS, Measure, record, timed

METHOD, TASK = "grasp", "digits-lt"
BUDGET = 'base = "standard"\nsteps = 150\nimages_per_class = 15\n'
"""A quarter of the demo's steps and images."""
AT_MOST = 2.0
PATIENCE = 300
"""Seconds after which a run is stopped, and its time is a lower bound."""
BUSY = "import torch; torch.set_num_threads({cores}); a = torch.randn(2048, 2048)\nwhile True: a @ a"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables that would choose the number of threads for the processes started here."""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="bench.bench_busy", description="A run beside a busy process.")
    parser.add_argument("--quick", action="store_true", help="a smoke run, which shows that it works")
    chosen = parser.parse_args()
    counts = [None, *(each for each in (2, 4, 8) if each <= (os.cpu_count() or 1))]
    measures = [beside_over_alone(threads, chosen.quick) for threads in counts]
    record("busy", measures, [], TRIALS if chosen.quick else RESULTS)


def beside_over_alone(threads: int | None, quick: bool) -> Measure:
    """Time of a run beside a busy process over its time alone; by default a run takes one thread of a tiny backbone."""
    alone, _ = timed(partial(run, threads, quick))
    with busy():
        beside, ended = timed(partial(run, threads, quick))
    what = "a smoke run" if quick else "a run of a quarter of the demo's steps and images"
    return Measure(
        name=f"{METHOD} beside a busy process over alone, {f'{threads} threads' if threads else 'threads by default'}",
        value=beside / alone,
        unit="times" if ended else "times or more",
        method=(
            f"Seconds of the whole command for {what}, once alone and once beside a process that multiplies matrices "
            f"with as many threads as there are cores. A run is stopped after {PATIENCE} s."
        ),
        at_most=None if threads else AT_MOST,
        details={"seconds": {"alone": alone, "beside": beside}, "ended": ended},
    )


def run(threads: int | None, quick: bool) -> bool:
    """Run the command into a folder of its own; whether it ended within :data:`PATIENCE`.

    Raises :class:`CalledProcessError` when it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        budget = Path(folder) / "quarter.toml"
        budget.write_text(BUDGET)
        options = ["--budget", "smoke" if quick else budget, "--device", "cpu", "--results", f"{folder}/results"]
        options += ["--work-dir", f"{folder}/work", *(["--threads", threads] if threads else [])]
        command = [sys.executable, "-m", "grasp_bench", "run", METHOD, TASK, *options]
        try:
            subprocess.run(
                [*map(str, command)], env=environment(), check=True, capture_output=True, timeout=PATIENCE, cwd=folder
            )
        except subprocess.TimeoutExpired:
            return False
    return True


@contextmanager
def busy() -> Iterator[None]:
    """Keep every core busy from another process."""
    program = BUSY.format(cores=os.cpu_count())
    with subprocess.Popen([sys.executable, "-c", program], env=environment()) as process:
        try:
            yield
        finally:
            process.kill()


def environment() -> dict[str, str]:
    """The variables of this process but those that choose a number of threads."""
    return {name: value for name, value in os.environ.items() if name not in THREADS}


if __name__ == "__main__":
    main()
