"""How long `grasp-bench report` takes over ten thousand records, the first time and with the index of the first.

``PYTHONPATH=tests python -m bench.bench_report`` writes results/perf/report.json and takes about three minutes on two
cores, and a gigabyte of the temporary folder; ``--records`` sets how many, for which fewer than 10,000 are a trial.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from grasp_bench.cli.report import uncollected
from grasp_bench.contracts.record import RECORD_NAME
from grasp_bench.contracts.spec import RunSpec
from grasp_bench.results.formats import terminal
from grasp_bench.results.frame import load_results
from grasp_bench.results.options import Options
from grasp_bench.results.tables import build, sections

from .recording import RESULTS, ROOT, TRIALS, Measure, record, timed

RECORDS = 10_000
TASKS = 10
SEEDS = 10
REPEATS = 5
SECONDS = 4.0
MODEL = ROOT / "results/archive/digits-lt/grasp~tuned=8/seed-0" / RECORD_NAME


def write_records(results: Path, count: int) -> int:
    """Records of tasks × methods × seeds with as many scores as the committed ones; their mean size in bytes."""
    model = json.loads(MODEL.read_text())
    stream = random.Random(0)
    size = 0
    for number in range(count):
        seed, rest = number % SEEDS, number // SEEDS
        text = json.dumps(variant(model, f"task-{rest % TASKS}", f"method-{rest // TASKS:03}", seed, stream), indent=2)
        folder = results / f"task-{rest % TASKS}/method-{rest // TASKS:03}/seed-{seed}"
        folder.mkdir(parents=True)
        size += (folder / RECORD_NAME).write_text(text)
    return size // count


def variant(model: dict[str, Any], task: str, method: str, seed: int, stream: random.Random) -> dict[str, Any]:
    """A record that differs from ``model`` in what it is of and in every score."""
    found = copy.copy(model) | {"task_label": task, "label": method, "spec": copy.deepcopy(model["spec"])}
    found["spec"]["task"]["name"], found["spec"]["method"]["name"], found["spec"]["seed"] = task, method, seed
    found["run_id"] = RunSpec.model_validate(found["spec"]).id
    found["scores"] = [score | {"value": score["value"] * stream.uniform(0.9, 1.1)} for score in model["scores"]]
    return found


def report(results: Path) -> float:
    """Seconds that the whole command takes, with Python's start."""
    command = [sys.executable, "-m", "grasp_bench", "report", "--results", str(results)]
    return timed(lambda: subprocess.run(command, check=True, stdout=subprocess.PIPE))[0]


def parts(results: Path) -> dict[str, float]:
    """Seconds of each part, in a process that has everything imported, and seconds of a processor for all of them."""
    start = time.process_time()
    with uncollected(), open(os.devnull, "w") as out:  # noqa: PTH123 # no path
        load, runs = timed(lambda: load_results(results))
        tables, built = timed(lambda: build(runs, Options(), results))
        printing, _ = timed(lambda: out.write(terminal(sections(built), 100)))
    return {"load": load, "tables": tables, "print": printing, "processor": time.process_time() - start}


def measure(count: int) -> list[Measure]:
    """The first call, which reads every record, and those after it."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)
        size = write_records(results, count)
        first = report(results)
        later = [report(results) for _ in range(REPEATS)]
        parts(results)  # imports
        each = [parts(results) for _ in range(REPEATS)]
    inside = [found["load"] + found["tables"] + found["print"] for found in each]
    shape = f"{TASKS} tasks and {SEEDS} seeds, {size / 1000:.0f} kB a record, all metrics"
    return [
        Measure(
            name=f"report of {count:,} records: load and print",
            value=statistics.median(inside),
            unit="s",
            at_most=SECONDS,
            method=f"Median of {REPEATS} with everything imported and the index up to date; {shape}.",
            details={"seconds": inside, "parts": each},
        ),
        Measure(
            name=f"report of {count:,} records: the whole command",
            value=statistics.median(later),
            unit="s",
            method=f"Median of {REPEATS} with the index up to date, Python's start and imports included; {shape}.",
            details={"seconds": later},
        ),
        Measure(
            name=f"report of {count:,} records: the first call",
            value=first,
            unit="s",
            method=f"The whole command once, without an index: every record is read and checked; {shape}.",
        ),
    ]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="bench.bench_report", description="Time the report.")
    parser.add_argument("--records", type=int, default=RECORDS, help=f"records to report (default {RECORDS:,})")
    count = parser.parse_args().records
    record("report", measure(count), ["pandas", "pyarrow", "rich"], RESULTS if count >= RECORDS else TRIALS)


if __name__ == "__main__":
    main()
