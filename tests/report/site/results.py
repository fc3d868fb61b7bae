"""Results with invented numbers, such as runs leave them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from grasp_bench.record import write_record
from grasp_bench.report.load import load_runs
from grasp_bench.report.sheet import GENERATED, REAL, write_sheet
from grasp_bench.report.site import write_site
from report.records import cost, metric, record

GROUPS = ("head", "medium", "tail", "all")
CLASSES = {"apple": ("head", 80), "pear": ("medium", 20), "quince": ("tail", 4)}
HOSTILE = '<img src="https://evil.example/x.png" onerror="document.title=\'owned\'">'
BREAKOUT = "</script><script>document.title='owned'</script>"
METHODS = {"grasp": 90.5, "lora": 120.25, "moe": 101.0, HOSTILE: 300.0}
"""Method → its FD of the head; each group after it is worse by 7."""


def make_results(
    folder: Path, methods: dict[str, float] | None = None, seeds: int = 3, task: str = "digits-lt"
) -> Path:
    """Runs of every method, and one that failed."""
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
            made = record(
                method, seed, scores, task=task, cost=cost(30.0 + number, 1000 * 4**number), diagnostics=usage
            )
            write_record(place, made)
            _add_files(place, number, seed)
    failed = record("broken", 0, status="failed", reason=BREAKOUT, task=task)
    write_record(folder / task / "broken" / "seed-0", failed)
    (folder / task / "broken" / "seed-0" / "train.jsonl").write_text('{"step": 50, "loss"')  # as it was cut off
    return folder


def _add_files(place: Path, number: int, seed: int) -> None:
    lines = ["class,group,train_images,metric,n,value,floor,low,high"]
    lines += [
        f"{name},{group},{count},fd,30,{100 / count + number + seed},{60 / count},0,9"
        for name, (group, count) in CLASSES.items()
    ]
    lines += [f"{name},{group},{count},recall,2,,,," for name, (group, count) in CLASSES.items()]  # n too small
    (place / "classes.csv").write_text("\n".join(lines) + "\n")
    rows = [{"step": step, "loss": 0.5, "group_loss": {"head": 1 / step, "tail": None}} for step in (50, 100)]
    (place / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if number == 0:
        clusters = {"clusters": ["many", "few"], "classes": {"apple": 0, "pear": 1, "quince": 1}}
        (place / "partition.json").write_text(json.dumps(clusters))
    images = np.random.default_rng(number).integers(0, 256, (len(CLASSES), 3, 1, 8, 8), np.uint8)
    write_sheet(place / GENERATED, dict(zip(CLASSES, images, strict=True)))
    write_sheet(place / REAL, {name: np.full((2, 1, 8, 8), 9 * rank, np.uint8) for rank, name in enumerate(CLASSES)})


def make_page(results: Path, folder: Path, baseline: str | None = None) -> Path:
    """The page of all runs under ``results``."""
    return write_site(load_runs(results), folder, baseline)
