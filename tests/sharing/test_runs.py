"""Whether what is recorded of a run still is what a run of it would record."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from grasp_bench.contracts.record import RECORD_NAME, read_record
from grasp_bench.errors import UserError
from grasp_bench.results.frame import frame_of
from grasp_bench.results.sharing.runs import check_current
from grasp_bench.results.versions import other_versions
from grasp_bench.run.pipeline import protocol
from grasp_bench.run.plan import Plan, plan
from grasp_bench.tuning.chosen import with_tuned

RESULTS = Path(__file__).parents[2] / "results"
METHODS = tomllib.loads((RESULTS / "digits-lt/sweeps/methods.toml").read_text())["methods"]


EARLIER = {"grasp": "1", "oc": "1", "coral": "1", "moe": "1", "cm": "1"}
"""Method → version of its committed records, of methods that compute something else since and were not run again."""


def committed(method: str) -> tuple[Path, Plan]:
    """The folder of the method's run in the committed results, and what a run of it would be here."""
    here = with_tuned(plan(method=method, task="digits-lt"), RESULTS)
    return RESULTS / here.task_label / here.label / "seed-0", here


@pytest.mark.parametrize("method", [name for name in METHODS if name not in EARLIER])
def test_committed_runs_are_of_the_rules_stages_and_searches_of_today(method: str) -> None:
    folder, here = committed(method)
    record = read_record(folder / RECORD_NAME)
    assert here.spec.id == record.run_id
    assert protocol(here) == record.protocol
    assert here.tuned == record.tuned
    check_current(folder, here, record)


@pytest.mark.parametrize(("method", "version"), EARLIER.items())
def test_committed_runs_of_an_earlier_version_are_read_and_their_search_is_refused(method: str, version: str) -> None:
    with pytest.raises(UserError, match=f"is a search of method {method}@{version}, and this is {method}@"):
        committed(method)
    folder = RESULTS / "digits-lt" / f"{method}~tuned=8" / "seed-0"
    record = read_record(folder / RECORD_NAME)
    assert (record.spec.method.version, record.status) == (version, "finished")
    frame = frame_of([(str(folder), record)])
    assert set(other_versions(frame.drop_duplicates("folder"))) == {f"version {version} of {method}"}


def test_another_version_of_the_extractor_is_another_protocol() -> None:
    folder, chosen = committed("lora")
    (own,) = chosen.extractors
    later = replace(chosen, extractors=(replace(own, kind=type("Later", (own.kind,), {"version": "2"})),))
    with pytest.raises(UserError, match="extractor is of version 1, digits-cnn@2 here, the run was made with 1, so"):
        check_current(folder, later, read_record(folder / RECORD_NAME))
