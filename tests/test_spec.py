"""The identity of a run."""

import pytest
from pydantic import ValidationError

from grasp_bench.contracts.record import Environment, RunRecord, read_record, write_record
from grasp_bench.contracts.spec import Budget, Component, RunSpec
from grasp_bench.run.plan import plan

SPEC = RunSpec(
    task=Component(name="digits-lt", version="1", settings={"class_order": "0123456789", "ema_decay": None}),
    method=Component(name="grasp", version="1", settings={"learning_rate": 0.003, "rank": 16}),
    backbone=Component(name="tiny-sd3", version="0b6966488a08"),
    guidance=Component(name="cfg", version="1", settings={"guidance_scale": 2.0}),
    budget=Budget(
        name="standard",
        steps=600,
        batch_size=64,
        warmup_steps=30,
        clip_norm=1.0,
        prompt_dropout=0.1,
        images_per_class=60,
        num_inference_steps=20,
    ),
    seed=0,
)


def test_the_id_of_schema_1_is_pinned() -> None:
    assert SPEC.id == "52e8b89e9da02900d80565abe2344ea5b7a3b90ad753d3a52c43f76598e69f9a"


def test_everything_that_decides_scores_enters_the_id() -> None:
    asked = {"method": "grasp", "task": "digits-lt"}
    variants = [
        plan(**asked),
        plan(**asked, seed=1),
        plan(**asked, budget="smoke"),
        plan(**asked, guidance="none"),
        plan(**asked, method_settings=["rank=8"]),
        plan(**asked, task_settings=["class_order=9876543210"]),
        plan(**asked, guidance_settings=["guidance_scale=3"]),
        plan(method="lora", task="digits-lt"),
    ]
    assert len({variant.spec.id for variant in variants}) == len(variants)
    assert len({(v.task_label, v.label, v.spec.seed) for v in variants}) == len(variants)
    assert plan(**asked, method_settings=["rank=12"]).spec.id == variants[0].spec.id


def test_a_record_whose_id_is_not_its_specs_is_refused(tmp_path) -> None:
    environment = Environment(versions={}, platform="Linux", device="cpu", threads=1, git_commit=None, git_dirty=None)
    record = RunRecord(
        run_id=SPEC.id,
        spec=SPEC,
        task_label="digits-lt",
        label="grasp",
        backbone_label="tiny-sd3",
        status="cancelled",
        protocol={"rules": "1.0"},
        started="2026-01-01T00:00:00+00:00",
        finished="2026-01-01T00:00:01+00:00",
        environment=environment,
    )
    assert read_record(write_record(tmp_path, record)) == record
    with pytest.raises(ValidationError, match="is not the identity of the spec"):
        RunRecord.model_validate(record.model_dump() | {"run_id": "0" * 64})
