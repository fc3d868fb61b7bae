"""Records with invented numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grasp_bench.record import Cost, Environment, Metric, RunRecord, write_record
from grasp_bench.spec import Budget, Component, RunSpec

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


def metric(name: str, group: str, value: float, *, lower: bool = False, floor: float | None = None) -> Metric:
    """A score of 30 images."""
    return Metric(
        name=name,
        label="FD(digits-cnn)" if name == "fd" else name,
        group=group,
        value=value,
        direction="lower" if lower else "higher",
        n=30,
        floor=floor,
    )


def record(
    method: str,
    seed: int = 0,
    metrics: Sequence[Metric] = (),
    *,
    version: str = "1",
    task: str = "digits-lt",
    task_version: str = "1",
    **fields: Any,
) -> RunRecord:
    """A finished run, unless ``fields`` say otherwise."""
    spec = RunSpec(
        task=Component(name=task, version=task_version),
        method=Component(name=method, version=version),
        backbone=Component(name="tiny-sd3", version="abc"),
        guidance=Component(name="cfg", version="1"),
        budget=BUDGET,
        seed=seed,
    )
    environment = Environment(versions={}, platform="Linux", device="cpu", threads=2, git_commit=None, git_dirty=None)
    given: Mapping[str, Any] = {"status": "finished", "cost": cost() if metrics else None, **fields}
    return RunRecord(
        run_id=spec.id,
        spec=spec,
        protocol={"rules": "1.0"},
        task_label=task,
        label=method,
        started="2025-01-01T00:00:00Z",
        finished="2025-01-01T00:01:00Z",
        environment=environment,
        metrics=list(metrics),
        **given,
    )


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
    )


def save(results: Path, *records: RunRecord) -> None:
    """Write records where runs leave them."""
    for each in records:
        write_record(results / each.task_label / each.label / f"seed-{each.spec.seed}", each)
