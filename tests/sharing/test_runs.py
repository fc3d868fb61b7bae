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
from grasp_bench.run.plan import RULES_VERSION, Plan, plan
from grasp_bench.tuning.chosen import with_tuned
from grasp_bench.tuning.trials import tuning_path

RESULTS = Path(__file__).parents[2] / "results"
ARCHIVE = RESULTS / "archive"
"""Runs and searches of version 1 of the task."""
METHODS = tomllib.loads((RESULTS / "digits-lt/sweeps/methods.toml").read_text())["methods"]


def searched(results: Path) -> list[str]:
    """The methods with a committed search."""
    return [method for method in METHODS if tuning_path(results, plan(method=method, task="digits-lt")).exists()]


def committed(method: str, results: Path = RESULTS) -> tuple[Path, Plan]:
    """The folder of the method's run in the committed results, and what a run of it would be here."""
    here = with_tuned(plan(method=method, task="digits-lt"), results)
    return results / here.task_label / here.label / "seed-0", here


@pytest.mark.parametrize("method", searched(RESULTS))
def test_committed_runs_are_of_the_rules_stages_and_searches_of_today(method: str) -> None:
    folder, here = committed(method)
    record = read_record(folder / RECORD_NAME)
    assert here.spec.id == record.run_id
    assert protocol(here) == record.protocol
    assert here.tuned == record.tuned
    check_current(folder, here, record)


@pytest.mark.parametrize("method", searched(ARCHIVE))
def test_committed_searches_of_an_earlier_version_are_refused(method: str) -> None:
    with pytest.raises(UserError, match=r"is a search of (method|task) .*@1, and this is "):
        committed(method, ARCHIVE)


def test_committed_runs_of_an_earlier_version_of_a_method_say_so() -> None:
    folder = ARCHIVE / "digits-lt" / "oc~tuned=8" / "seed-0"
    record = read_record(folder / RECORD_NAME)
    assert (record.spec.method.version, record.status) == ("1", "finished")
    frame = frame_of([(str(folder), record)])
    assert set(other_versions(frame.drop_duplicates("folder"))) == {"version 1 of oc"}


def test_another_version_of_the_extractor_is_another_protocol() -> None:
    folder, chosen = ARCHIVE / "digits-lt" / "lora~tuned=8" / "seed-0", plan(method="lora", task="digits-lt")
    (own,) = chosen.extractors
    later = replace(chosen, extractors=(replace(own, kind=type("Later", (own.kind,), {"version": "2"})),))
    record = read_record(folder / RECORD_NAME)
    of_these_rules = record.model_copy(update={"protocol": record.protocol | {"rules": RULES_VERSION}})
    with pytest.raises(UserError, match="extractor is of version 1, digits-cnn@2 here, the run was made with 1, so"):
        check_current(folder, later, of_these_rules)
