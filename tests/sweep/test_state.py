"""The state of a cell is what its record, its process and its job say, in that order."""

import json

import pytest

from grasp_bench.contracts.record import Environment, RunRecord, write_record
from grasp_bench.errors import UserError
from grasp_bench.run.pipeline import protocol, stage_keys
from grasp_bench.sweep.cells import read_sweep
from grasp_bench.sweep.process import start
from grasp_bench.sweep.state import Job, State, counted, recorded, state_of, step_of

from .sweeps import HEADER, call, wait_for, write

WAITING, OVER = Job("7_0", "waiting"), Job("7_0", "over")


@pytest.fixture
def sweep(at_home):
    return read_sweep(write(at_home / "one.toml", HEADER + 'budget = "smoke"\n'))


def leave_record(cell, status, **changes):
    record = RunRecord(
        run_id=cell.plan.spec.id,
        spec=cell.plan.spec,
        task_label=cell.plan.task_label,
        label=cell.plan.label, backbone_label="tiny-sd3",
        status=status,
        started="2026-01-01T00:00:00+00:00",
        finished="2026-01-01T00:01:30+00:00",
        environment=Environment(
            versions={}, platform="", device="cpu", threads=1, git_commit=None, git_dirty=None
        ),
        protocol=protocol(cell.plan),
        **{"stages": stage_keys(cell.plan)} | changes,
    )  # fmt: skip
    return write_record(cell.record.parent, record)


@pytest.mark.parametrize("status", ["finished", "skipped", "cancelled", "failed", "oom"])
def test_the_record_tells(sweep, status):
    (cell,) = sweep.cells
    leave_record(cell, status, reason="because")
    log = f" (log: {cell.log})" if status in ("failed", "oom") else ""
    assert state_of(cell) == State(status, 90, f"because{log}")


def test_a_record_that_is_stale_damaged_or_lacks_a_file_counts_as_none(sweep):
    (cell,) = sweep.cells
    assert recorded(cell).status == "missing"
    leave_record(cell, "finished", stages=stage_keys(cell.plan) | {"score": "0" * 64})
    assert recorded(cell).status == "missing"
    leave_record(cell, "finished", files=["classes.csv", "samples.png"])
    assert recorded(cell).status == "missing"
    (cell.record.parent / "samples.png").touch()
    assert recorded(cell).status == "missing"
    (cell.record.parent / "classes.csv").touch()
    assert recorded(cell).status == "finished"
    (cell.record.parent / "samples.png").unlink()  # a repository may leave pictures out
    assert recorded(cell).status == "finished"
    cell.record.write_text(cell.record.read_text()[:50])
    assert recorded(cell).status == "missing"


def test_a_job_that_waits_or_runs_outdoes_a_failure_but_not_a_success(sweep):
    (cell,) = sweep.cells
    assert state_of(cell, OVER).note == f"job 7_0 ended before the run did; see {cell.log}"
    leave_record(cell, "failed")
    assert state_of(cell, WAITING).status == "waiting"
    assert state_of(cell, OVER).status == "failed"
    leave_record(cell, "finished")
    assert state_of(cell, WAITING).status == "finished"


def test_a_process_is_seen_as_long_as_it_lives(sweep, monkeypatch):
    monkeypatch.setattr("grasp_bench.sweep.process.COMMAND", ("sleep",))
    (cell,) = sweep.cells
    process = start(["60"], cell.log, {})
    assert state_of(cell).status == "running"
    process.kill()
    wait_for(lambda: state_of(cell).status == "missing", 5)
    process.wait()


def test_the_step_is_that_of_the_newest_checkpoint(sweep):
    (cell,) = sweep.cells
    assert step_of(cell, sweep) == 0
    key = cell.training[:20]
    partial = sweep.config.options.work_dir / "train" / f"{key}.partial"
    partial.mkdir(parents=True)
    for name in ("step-00000004.0123456789abcdef.safetensors", "step-00000012.0123456789abcdef.safetensors", "x"):
        (partial / name).touch()
    assert step_of(cell, sweep) == 12
    partial.rename(partial.with_suffix(""))
    assert step_of(cell, sweep) == 20


def test_status_shows_every_cell_and_changes_nothing(sweep, at_home, capsys):
    (cell,) = sweep.cells
    leave_record(cell, "failed", reason="it [broke]")
    before = sorted(at_home.rglob("*"))
    assert call("status", sweep.path) == 0
    out = capsys.readouterr().out  # 100 columns wide, where there is no terminal
    for part in ("~budget=smoke\n", "grasp   cfg", "failed", "0/20", "0:01:30", "it [broke]", "1 cell: 1 failed"):
        assert part in out
    assert call("status", sweep.path, "--watch") == 1
    assert sorted(at_home.rglob("*")) == before


def test_counted():
    assert counted([State("finished"), State("failed"), State("finished")]) == "2 finished, 1 failed"


def test_a_damaged_list_of_jobs_names_its_file(sweep):
    sweep.folder.mkdir(parents=True)
    path = write(sweep.folder / "jobs.json", "{")
    with pytest.raises(UserError, match=r"jobs\.json: cannot be read"):
        call("status", sweep.path)
    write(path, json.dumps({"another cell": "3"}))  # nothing of this sweep, so nobody is asked
    assert call("status", sweep.path) == 0
