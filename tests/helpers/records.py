"""Records with invented numbers."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from grasp_bench import plugins
from grasp_bench.contracts.entry import Entered, Facts
from grasp_bench.contracts.record import Cost, Environment, RunRecord, Score, write_record
from grasp_bench.contracts.spec import Budget, Component, RunSpec
from grasp_bench.results.board import Leaderboard
from grasp_bench.results.frame import frame_of, load_results
from grasp_bench.results.judging import Procedure
from grasp_bench.results.leaderboard import leaderboards
from grasp_bench.results.load import FoundRun, read_runs
from grasp_bench.results.options import Options
from grasp_bench.results.tables import Report, build

BUDGET = Budget(
    name="standard",
    steps=600,
    batch_size=64,
    warmup_steps=30,
    clip_norm=1.0,
    prompt_dropout=0.1,
    images_per_class=60,
    num_inference_steps=20,
)


def metric(name: str, group: str, value: float | None, *, lower: bool = False, floor: float | None = None) -> Score:
    """A score of 30 images; "f1_real" is the metric f1 of a classifier trained on real images."""
    metric, _, source = name.partition("_")
    source, balanced, _ = source.partition("_balanced")
    return Score(
        metric=metric,
        source=source or "generated",
        test_set="balanced-test" if balanced else "test",
        label="FD(digits-cnn)" if metric == "fd" else metric,
        group=group,
        value=value,
        direction="lower" if lower else "higher",
        n=30,
        reference=floor,
    )


def record(
    method: str,
    seed: int = 0,
    metrics: Sequence[Score] = (),
    *,
    version: str | None = None,
    task: str = "digits-lt",
    task_version: str = "1",
    **fields: Any,
) -> RunRecord:
    """A finished run, unless ``fields`` say otherwise, of the installed version of the method where there is one."""
    installed = plugins.load("methods", method).version if method in plugins.entries("methods") else "1"
    spec = RunSpec(
        task=Component(name=task, version=task_version),
        method=Component(name=method, version=version or installed),
        backbone=Component(name="tiny-sd3", version="abc"),
        guidance=Component(name="cfg", version="1"),
        budget=BUDGET,
        seed=seed,
    )
    environment = Environment(versions={}, platform="Linux", device="cpu", threads=2, git_commit=None, git_dirty=None)
    given: Mapping[str, Any] = {
        "task_label": task,
        "label": method,
        "backbone_label": "tiny-sd3",
        "status": "finished",
        "cost": cost() if metrics else None,
        "streams": "a" * 64 if metrics else None,
        "protocol": {"rules": "1.0"},
        **fields,
    }
    return RunRecord(
        run_id=spec.id,
        spec=spec,
        started="2025-01-01T00:00:00Z",
        finished="2025-01-01T00:01:00Z",
        environment=environment,
        scores=list(metrics),
        **given,
    )


def opened(made: RunRecord, **declared: Any) -> RunRecord:
    """The record as one of the open division, which declares those facts and has no cost."""
    spec = made.spec.model_copy(update={"division": "open", "guidance": Component(name="external", version="1")})
    entry = Entered(declared=Facts(**declared))
    none = {"cost": None, "streams": None}
    return made.model_copy(update={"spec": spec, "run_id": spec.id, "division": "open", "entry": entry, **none})


def cost(seconds: float = 60.0, parameters: int = 1234) -> Cost:
    """What an invented run spent."""
    return Cost(
        trainable_parameters=parameters,
        total_parameters=600_000,
        train_seconds=seconds,
        seconds_per_step=seconds / 600,
        peak_memory_mib=900.0,
        checkpoint_mib=1.0,
        generate_seconds=8.0,
        network_evaluations_per_image=40.0,
        backward_passes_per_image=0.0,
        gflops_per_image=1.5,
        generate_peak_memory_mib=800.0,
    )


def save(results: Path, *records: RunRecord) -> None:
    """Write records where runs leave them."""
    for each in records:
        write_record(results / each.task_label / each.label / f"seed-{each.spec.seed}", each)


def found_runs(results: Path) -> list[FoundRun]:
    """The runs of a folder with their folders, as the page takes them."""
    return read_runs(results, load_results(results)["folder"].unique())


def framed(records: Iterable[RunRecord]) -> pd.DataFrame:
    """The frame of records in the folders where runs leave them."""
    return frame_of((f"{each.task_label}/{each.label}/seed-{each.spec.seed}", each) for each in records)


def boards(records: Iterable[RunRecord], test: Procedure = "model", sort: str | None = None) -> list[Leaderboard]:
    """The leaderboards of records."""
    return leaderboards(framed(records), test, sort)


def cell(board: Leaderboard, label: str, group: str, metric: str | None = None) -> Any:
    """The cell of a row and group; of the first metric unless one is named."""
    cells = board.cells
    (found,) = cells[
        (cells["label"] == label) & (cells["group"] == group) & (cells["metric"] == (metric or cells["metric"].iloc[0]))
    ].itertuples()
    return found


def reported(records: Sequence[RunRecord], **options: Any) -> Report:
    """The report of records with the options of the command line."""
    return build(framed(records), Options(**options), Path("results"))


def example() -> list[RunRecord]:
    """Three seeds of one method, one of another, and a failure."""
    runs = []
    for seed, (tail, whole) in enumerate([(0.5, 0.7), (0.6, 0.8), (0.7, 0.9)]):
        scores = [
            metric("fd", "tail", 12 + seed, lower=True, floor=1.5),
            metric("fd", "all", 10 + seed, lower=True, floor=0.5),
            metric("accuracy_generated", "tail", tail),
            metric("accuracy_generated", "all", whole),
        ]
        runs.append(record("grasp", seed, scores))
    lora = [metric("fd", "tail", 20, lower=True, floor=1.5), metric("fd", "all", 9, lower=True)]
    runs.append(record("lora", 0, lora))
    runs.append(record("moe|x", 0, status="oom", reason="out of memory at step 3\n[4 GiB asked]"))
    return runs


def separated(seeds: int = 8, name: str = "recall", **fields: Any) -> list[RunRecord]:
    """Three methods, of which the last is far behind the others, which are alike."""
    return [
        record(method, seed, [metric(name, "tail", base + 0.01 * ((seed * 7) % 5))], **fields)
        for seed in range(seeds)
        for method, base in (("alike", 0.8 + 0.001 * (-1) ** seed), ("best", 0.8005), ("last", 0.2))
    ]
