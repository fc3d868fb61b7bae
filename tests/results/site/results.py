"""Results with invented numbers, such as runs leave them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from helpers.records import cost, found_runs, metric, record

from grasp_bench.contracts.record import RunRecord, write_record
from grasp_bench.contracts.spec import Component
from grasp_bench.results.site import write_site
from grasp_bench.run.files import GENERATED_SHEET, REAL_SHEET
from grasp_bench.run.pictures import write_sheet

GROUPS = ("head", "medium", "tail", "all")
HOSTILE = '<img src="https://evil.example/x.png" onerror="document.title=\'owned\'">'
BREAKOUT = "</script><script>document.title='owned'</script>"
PEAR = f"pear  {BREAKOUT}"
"""A class, with two spaces in a row."""
CLASSES = {"apple": ("head", 100), PEAR: ("medium", 20), "quince": ("tail", 4)}
"""Class → its group and training images, of which each class has five times as many as the next."""
CLUSTERS = ["many", f"few {HOSTILE}"]
CUT_OFF = b'{"step": 50, "group_loss": {"caf\xc3'
"""A log whose last row ends within a letter."""
METHODS = {"grasp": 90.5, "lora": 120.25, "moe": 101.0, HOSTILE: 300.0}
"""Method → its FD of the head; each group after it is worse by 7."""
GUIDANCES = {
    "moe": Component(name="none", version="1"),
    HOSTILE: Component(name="cfg", version="1", settings={"schedule": HOSTILE}),
}
"""Method → its guidance, where that is not plain ``cfg``."""


def make_results(
    folder: Path, methods: dict[str, float] | None = None, seeds: int = 3, task: str = "digits-lt"
) -> Path:
    """Runs of every method, and one that failed; the task's label is as hostile as a method's."""
    task_label = f"{task} {HOSTILE}"
    for number, (method, head) in enumerate((methods or METHODS).items()):
        for seed in range(seeds):
            place = folder / task / f"method-{number}" / f"seed-{seed}"
            scores = [
                each
                for rank, group in enumerate(GROUPS)
                for each in (
                    metric("fd", group, head + 7 * rank + seed, lower=True, floor=20.0 + rank),
                    metric("recall", group, 0.5 + 0.01 * number - 0.1 * rank + 0.001 * seed),
                )
            ]
            usage = (
                [{"step": 50, "expert_usage": {"head": [0.25, 0.75], "tail": [0.5, 0.5]}}] if method == "moe" else []
            )
            spent = cost(30.0 + number, 1000 * 4**number)
            made = record(method, seed, scores, task=task, task_label=task_label, cost=spent, diagnostics=usage)
            write_record(place, guided(made))
            _add_files(place, number, seed)
    failed = record("broken", 0, status="failed", reason=BREAKOUT, task=task, task_label=task_label)
    write_record(folder / task / "broken" / "seed-0", failed)
    (folder / task / "broken" / "seed-0" / "train.jsonl").write_bytes(CUT_OFF)
    return folder


def guided(made: RunRecord) -> RunRecord:
    """The run with the guidance of its method."""
    spec = made.spec.model_copy(update={"guidance": GUIDANCES.get(made.label, made.spec.guidance)})
    return made.model_copy(update={"spec": spec, "run_id": spec.id})


def _add_files(place: Path, number: int, seed: int) -> None:
    with (place / "classes.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["class", "group", "train_images", "metric", "n", "value", "floor", "low", "high"])
        for name, (group, count) in CLASSES.items():
            table.writerow([name, group, count, "fd", 30, 100 / count + number + seed, 60 / count, 0, 9])
            table.writerow([name, group, count, "recall", 2, "", "", "", ""])  # n too small
    rows = [{"step": step, "loss": 0.5, "group_loss": {"head": 1 / step, "tail": None}} for step in (50, 100)]
    (place / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if number == 0:
        clusters = {"clusters": CLUSTERS, "classes": {"apple": 0, PEAR: 1, "quince": 1}}
        (place / "partition.json").write_text(json.dumps(clusters))
    images = np.random.default_rng((number, seed)).integers(0, 256, (len(CLASSES), 3, 1, 8, 8), np.uint8)
    write_sheet(place / GENERATED_SHEET, dict(zip(CLASSES, images, strict=True)))
    write_sheet(
        place / REAL_SHEET, {name: np.full((2, 1, 8, 8), 9 * rank, np.uint8) for rank, name in enumerate(CLASSES)}
    )


def make_page(results: Path, folder: Path, baseline: str | None = None, *, single_file: bool = True) -> Path:
    """The page of all runs under ``results``."""
    return write_site(found_runs(results), folder, baseline, single_file=single_file)
