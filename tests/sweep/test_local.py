"""Cells as processes: a slot each, failures apart, and nothing lost or left behind by Ctrl-C."""

import io
import json
import os
import signal
import sys

import pytest
from rich.console import Console

from grasp_bench.contracts.progress import Progress
from grasp_bench.errors import UserError
from grasp_bench.sweep import local
from grasp_bench.sweep.cells import read_sweep
from grasp_bench.sweep.process import is_running, last_line

from .sweeps import HEADER, OPTIONS, begun, call, records, silent, step, wait_for, write

STAND_IN = """
import json, os, sys, time
begun = time.monotonic()
time.sleep(0.3)
slot = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")}
with open("calls.jsonl", "a") as file:
    print(json.dumps({"begun": begun, "ended": time.monotonic(), "slot": slot, "arguments": sys.argv[1:]}), file=file)
"""


@pytest.fixture
def calls(at_home, monkeypatch):
    """Stand in for `grasp-bench run`, and give what the calls of it were."""
    monkeypatch.setattr("grasp_bench.sweep.process.COMMAND", (sys.executable, "-c", STAND_IN))
    return lambda: [json.loads(line) for line in (at_home / "calls.jsonl").read_text().splitlines()]


def overlap(one: dict, other: dict) -> bool:
    return one["begun"] < other["ended"] and other["begun"] < one["ended"]


def test_cells_that_share_a_training_follow_each_other_while_others_run(tmp_path, calls):
    text = 'methods = ["grasp"]\ntasks = ["digits-lt"]\nseeds = [0, 1, 2]\nguidances = ["none", "cfg"]\n'
    sweep = read_sweep(write(tmp_path / "s.toml", text))
    slots = [{"OMP_NUM_THREADS": "3", "CUDA_VISIBLE_DEVICES": number} for number in ("4", "5")]
    local.run_cells(sweep, sweep.cells, slots, silent())

    made = calls()
    assert sorted(each["arguments"] for each in made) == sorted(list(cell.arguments) for cell in sweep.cells)
    assert all(each["slot"] in slots for each in made)
    pairs = [(one, other) for index, one in enumerate(made) for other in made[:index]]
    assert any(overlap(*pair) for pair in pairs)
    for one, other in pairs:
        if overlap(one, other):
            assert one["slot"] != other["slot"]
            seeds = [each["arguments"][each["arguments"].index("--seed") + 1] for each in (one, other)]
            assert seeds[0] != seeds[1]


def test_on_a_terminal_a_table_shows_what_runs(tmp_path, calls):
    sweep = read_sweep(write(tmp_path / "s.toml", HEADER))
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=200, highlight=False)
    local.run_cells(sweep, sweep.cells, [{}], Progress(console))
    table, _, after = shown.getvalue().partition("[1/1] missing after 0:00:0")
    assert "0/600" in table
    assert "1 running, 0 waiting" in table
    assert "grasp on digits-lt, seed 0" in after


@pytest.mark.parametrize(
    ("parallel", "gpus", "threads", "expected"),
    [
        (None, [], 8, [("8", None)]),
        (3, [], 8, [("2", None)] * 3),
        (None, ["0", "1"], 8, [("4", "0"), ("4", "1")]),
        (3, ["2", "5"], 2, [("1", "2"), ("1", "5"), ("1", "2")]),
    ],
)
def test_slots_share_the_cores_and_take_a_gpu_each(monkeypatch, parallel, gpus, threads, expected):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(threads)))
    monkeypatch.setattr(local, "_gpus", lambda: gpus)
    slots = local.make_slots(parallel, "auto")
    assert [(slot["OMP_NUM_THREADS"], slot.get("CUDA_VISIBLE_DEVICES")) for slot in slots] == expected


def test_cells_of_several_processes_have_a_gpu_for_each(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)))
    monkeypatch.setattr(local, "_gpus", lambda: list("01234"))
    slots = local.make_slots(None, "auto", 2)
    assert [(slot["OMP_NUM_THREADS"], slot["CUDA_VISIBLE_DEVICES"]) for slot in slots] == [("4", "0,1"), ("4", "2,3")]
    assert len(local.make_slots(3, "auto", 4)) == 3
    with pytest.raises(UserError, match="processes = 8: each takes a GPU, and there are 5 here"):
        local.make_slots(None, "auto", 8)
    assert local.make_slots(None, "cpu", 8) == [{"OMP_NUM_THREADS": "2"}]


def test_on_a_cpu_no_slot_has_a_gpu_and_the_users_threads_stand(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setattr(local, "_gpus", lambda: ["0"])
    assert local.make_slots(2, "cpu") == [{"OMP_NUM_THREADS": "5"}] * 2


def test_a_run_that_dies_without_a_record_has_failed_and_its_last_words_are_told(tmp_path, monkeypatch, capsys):
    script = "import os, signal; print('going down', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    monkeypatch.setattr("grasp_bench.sweep.process.COMMAND", (sys.executable, "-c", script))
    path = write(tmp_path / "s.toml", HEADER + OPTIONS)
    assert call("sweep", path) == 1
    err = capsys.readouterr().err
    assert "[1/1] failed after 0:00:00: grasp on digits-lt, seed 0: exit status -9, going down (log: " in err
    (cell,) = read_sweep(path).cells
    assert last_line(cell.log) == "going down"


def test_a_cell_that_ignores_ctrl_c_is_killed_at_the_second(tmp_path, monkeypatch):
    script = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True)"
    command = (sys.executable, "-c", f"{script}; time.sleep(60)")
    monkeypatch.setattr("grasp_bench.sweep.process.COMMAND", command)
    sweep = read_sweep(write(tmp_path / "s.toml", HEADER))
    (cell,) = sweep.cells
    stop = local._stop

    def stop_twice(running, received):
        wait_for(lambda: last_line(cell.log) == "up", 10)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        stop(running, received)

    monkeypatch.setattr(local, "_stop", stop_twice)
    monkeypatch.setattr(local, "POLL_SECONDS", 0.05)
    before = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            local.run_cells(sweep, sweep.cells, [{}], silent())
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not is_running(cell.log)


@pytest.mark.parametrize(("sent", "expected"), [("SIGTERM", "SIGUSR1"), ("SIGUSR1", "SIGUSR1"), ("SIGINT", "SIGINT")])
def test_a_warning_is_passed_on_so_that_cells_write_a_checkpoint(tmp_path, monkeypatch, sent, expected):
    script = (
        "import signal, sys, time\n"
        "for each in ('SIGUSR1', 'SIGINT'):\n"
        "    signal.signal(getattr(signal, each), lambda n, _: (print(signal.Signals(n).name), sys.exit(130)))\n"
        "print('up', flush=True); time.sleep(60)"
    )
    monkeypatch.setattr("grasp_bench.sweep.process.COMMAND", (sys.executable, "-c", script))
    monkeypatch.setattr(local, "POLL_SECONDS", 0.05)
    sweep = read_sweep(write(tmp_path / "s.toml", HEADER))
    (cell,) = sweep.cells

    def warn(*_):
        if last_line(cell.log) == "up":
            os.kill(os.getpid(), getattr(signal, sent))
            signal.setitimer(signal.ITIMER_REAL, 0)

    before = signal.signal(signal.SIGALRM, warn)
    signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            local.run_cells(sweep, sweep.cells, [{}], silent())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert last_line(cell.log) == expected


def test_the_flags_exclude_each_other(tmp_path):
    with pytest.raises(UserError, match="exclude each other"):
        call("sweep", write(tmp_path / "s.toml", HEADER), "--force", "--only-missing")


@pytest.mark.slow
def test_a_failing_cell_stops_no_other_and_is_left_alone_until_asked(tmp_path, at_home, capsys):
    text = HEADER.replace("grasp", "probe") + 'budget = "smoke"\n[set.probe]\nfails_at = [3, -1]\n' + OPTIONS
    path = write(tmp_path / "s.toml", text)
    assert call("sweep", path, "--max-parallel", "2") == 1
    made = records(at_home)
    assert {label: record["status"] for label, record in made.items()} == {
        "probe/seed-0": "finished",
        "probe~fails_at=3/seed-0": "failed",
    }
    err = capsys.readouterr().err
    assert "failed after 0:0" in err
    assert "RuntimeError: the probe failed, as it was told to (log: .grasp-bench/sweep/s/" in err
    assert "2 cells: 1 failed, 1 finished" in err

    assert call("sweep", path) == 1
    assert records(at_home) == made
    err = capsys.readouterr().err
    assert "started" not in err
    assert "left alone (failed): probe with fails_at=3 on digits-lt~budget=smoke, seed 0" in err

    assert call("sweep", path, "--retry-failed") == 1
    again = records(at_home)
    assert again["probe/seed-0"] == made["probe/seed-0"]
    assert again["probe~fails_at=3/seed-0"]["started"] > made["probe~fails_at=3/seed-0"]["started"]


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on_to_the_same_weights(tmp_path, at_home, capsys):
    common = HEADER.replace("grasp", "probe") + 'budget = "smoke"\n'
    slow = write(tmp_path / "slow.toml", common + "[set.probe]\nseconds = 0.25\n" + OPTIONS)
    (cell,) = read_sweep(slow).cells
    reached = 0
    for number in (signal.SIGTERM, signal.SIGINT):
        with begun("sweep", slow) as process:
            wait_for(lambda reached=reached: step(at_home) > reached)
            assert call("status", slow) == 0
            assert "running" in capsys.readouterr().out
            assert call("sweep", slow) == 0  # it is being seen to
            assert "started" not in capsys.readouterr().err
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "[1/1] cancelled after" in err
        assert not is_running(cell.log)
        assert records(at_home)["probe~seconds=0.25/seed-0"]["status"] == "cancelled"
        reached = step(at_home)

    swift = write(tmp_path / "swift.toml", common + OPTIONS)
    assert call("sweep", slow) == 0
    assert call("sweep", swift) == 0
    made = records(at_home)
    assert {record["status"] for record in made.values()} == {"finished"}
    for field in ("weights", "streams", "scores"):
        assert made["probe~seconds=0.25/seed-0"][field] == made["probe/seed-0"][field]


@pytest.mark.parametrize(("asked", "expected"), [(None, "1"), ("2", "2")])
def test_a_cell_on_a_tiny_backbone_takes_one_thread_unless_the_user_asks_for_more(
    asked, expected, tmp_path, monkeypatch, capsys
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    script = "import os; print(os.environ['OMP_NUM_THREADS'])"
    monkeypatch.setattr("grasp_bench.sweep.process.COMMAND", (sys.executable, "-c", script))
    path = write(tmp_path / "s.toml", HEADER + OPTIONS)
    call("sweep", path)
    (cell,) = read_sweep(path).cells
    assert last_line(cell.log) == expected
