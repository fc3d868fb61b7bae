"""Whether what is recorded of a run still is what a run of it would record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from grasp_bench.comparison.runs import check_current
from grasp_bench.errors import UserError
from grasp_bench.harness.plan import plan
from grasp_bench.record import RECORD_NAME, read_record

RECORDS = Path(__file__).parents[2] / "results/digits-lt"


@pytest.mark.parametrize("method", ["grasp", "lora", "moe", "shared-adapter", "vanilla-ft"])
def test_committed_runs_are_of_the_rules_and_stages_of_today(method: str) -> None:
    record, here = read_record(RECORDS / method / "seed-0" / RECORD_NAME), plan(method=method, task="digits-lt")
    assert here.spec.id == record.run_id
    assert here.protocol() == record.protocol
    check_current(RECORDS / method / "seed-0", here, record)


def test_another_version_of_the_extractor_is_another_protocol() -> None:
    path = RECORDS / "lora" / "seed-0"
    chosen = plan(method="lora", task="digits-lt")
    later = replace(chosen, extractor=type("Later", (chosen.extractor,), {"version": "2"}))
    with pytest.raises(UserError, match="extractor is of version 1, digits-cnn@2 here, the run was made with 1, so"):
        check_current(path, later, read_record(path / RECORD_NAME))
