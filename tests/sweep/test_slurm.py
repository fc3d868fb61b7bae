"""Cells as jobs of a real SLURM, on this one machine: queued again, cancelled, failing, and what is left then."""

import json
import os
import subprocess
import sys

import pytest

from grasp_bench.errors import UserError
from grasp_bench.sweep.cells import read_sweep
from grasp_bench.sweep.slurm import _seconds, find_jobs, submit
from grasp_bench.sweep.state import BUSY, states

from .cluster import cluster, missing
from .sweeps import HEADER, OPTIONS, call, records, step, wait_for, write

PROBE = HEADER.replace("grasp", "probe") + 'budget = "smoke"\n'
SITE = "[slurm]\ntimeout_min = 20\nslurm_signal_delay_s = 20\n"

needs_slurm = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"needs slurm-wlm and munge; not installed: {', '.join(missing())}"),
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    pytest.importorskip("submitit", reason="needs the extra grasp-bench[slurm]")
    with cluster(tmp_path_factory.mktemp("cluster")) as config, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(config))
        yield


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The probe's record when nobody disturbs it."""
    from . import sweeps

    home = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        sweeps.install_probe(home / "site", patch)
        patch.chdir(home)
        assert call("sweep", write(home / "s.toml", PROBE + OPTIONS)) == 0
    return records(home)["probe/seed-0"]


def status(path) -> list[str]:
    sweep = read_sweep(path)
    return [state.status for state in states(sweep, find_jobs(sweep))]


def job(path) -> str:
    sweep = read_sweep(path)
    (number,) = set(json.loads((sweep.folder / "jobs.json").read_text()).values())
    return number


def restarts(number: str) -> int:
    shown = subprocess.run(["scontrol", "show", "job", number], capture_output=True, text=True, check=True).stdout
    return int(shown.partition("Restarts=")[2].split()[0])


def assert_same_outcome(record, expected):
    assert record["status"] == "finished"
    for field in ("weights", "streams", "scores"):
        assert record[field] == expected[field]


class TestOnACluster:
    pytestmark = needs_slurm

    def test_a_failing_cell_beside_a_finishing_one(self, slurm, expected, at_home, capsys):
        grid = 'guidances = ["cfg", "none"]\n[set.probe]\nfails_at = [3, -1]\n[[exclude]]\n'
        grid += 'guidance = "none"\nset = { fails_at = 3 }\n'
        path = write(at_home / "s.toml", PROBE + grid + OPTIONS + SITE)
        assert call("sweep", path, "--launcher", "slurm", "--max-parallel", "2") == 0
        assert "submitted 2 jobs for 3 cells" in capsys.readouterr().err  # two share a training
        assert call("sweep", path, "--launcher", "slurm") == 0
        assert "nothing to submit" in capsys.readouterr().err
        assert set(status(path)) <= {"waiting", "running"}

        assert call("status", path, "--watch") == 1
        assert status(path) == ["failed", "finished", "finished"]
        made = records(at_home)
        assert "the probe failed, as it was told to" in made["probe~fails_at=3/seed-0"]["reason"]
        assert_same_outcome(made["probe/seed-0"], expected)
        assert made["probe+none/seed-0"]["weights"] == expected["weights"]

    def test_a_job_that_is_queued_again_goes_on_and_a_cancelled_one_can_be_resumed(self, slurm, expected, at_home):
        path = write(at_home / "s.toml", PROBE + "[set.probe]\nseconds = 0.5\n" + OPTIONS + SITE)
        assert call("sweep", path, "--launcher", "slurm") == 0
        wait_for(lambda: step(at_home) > 2)
        subprocess.run(["scancel", "--signal=USR2", job(path)], check=True)  # as before its time is over
        wait_for(lambda: restarts(job(path)) == 1, 30)
        assert records(at_home)["probe~seconds=0.5/seed-0"]["status"] == "cancelled"
        reached = step(at_home)
        wait_for(lambda: status(path) == ["waiting"], 30)
        wait_for(lambda: step(at_home) > reached)
        assert status(path) == ["running"]

        subprocess.run(["scancel", job(path)], check=True)
        wait_for(lambda: status(path)[0] not in BUSY, 60)
        assert status(path)[0] in ("missing", "cancelled")
        assert step(at_home) > reached
        assert call("sweep", path) == 0
        assert_same_outcome(records(at_home)["probe~seconds=0.5/seed-0"], expected)

    def test_a_job_whose_time_is_over_is_queued_again_and_finishes(self, slurm, expected, at_home):
        # SLURM looks every 30 s, so the signal comes 70 to 100 s into the job; the steps alone take 100 s.
        site = "[slurm]\ntimeout_min = 2\nslurm_signal_delay_s = 20\n"
        path = write(at_home / "s.toml", PROBE + "[set.probe]\nseconds = 5\n" + OPTIONS + site)
        assert call("sweep", path, "--launcher", "slurm") == 0
        wait_for(lambda: status(path)[0] not in BUSY, 400, every=1)
        assert restarts(job(path)) >= 1
        assert_same_outcome(records(at_home)["probe~seconds=5.0/seed-0"], expected)

    def test_what_submitit_or_slurm_refuse_names_the_file(self, slurm, at_home):
        for site, reason in [
            ("slurm_partitoin = 'x'", "Unknown argument 'partitoin'"),
            ("timeout_min = 'long'", "expected type"),
            ("slurm_partition = 'nowhere'", "invalid partition"),
        ]:
            path = write(at_home / "s.toml", f"{PROBE}{OPTIONS}[slurm]\n{site}\n")
            with pytest.raises(UserError) as caught:
                call("sweep", path, "--launcher", "slurm")
            assert str(path) in str(caught.value)
            assert reason in str(caught.value)
            assert not (at_home / ".grasp-bench" / "sweep" / "s" / "jobs.json").exists()


def test_without_submitit_one_message_names_the_extra(at_home, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    sweep = read_sweep(write(at_home / "s.toml", PROBE))
    with pytest.raises(UserError, match=r'pip install "grasp-bench\[slurm\]"'):
        submit(sweep, sweep.cells, None)


def leave_job(sweep) -> None:
    sweep.folder.mkdir(parents=True)
    write(sweep.folder / "jobs.json", json.dumps({cell.name: "12_0" for cell in sweep.cells}))


def test_jobs_that_nobody_can_be_asked_for(at_home, monkeypatch):
    sweep = read_sweep(write(at_home / "s.toml", PROBE))
    leave_job(sweep)
    monkeypatch.setenv("PATH", str(at_home))
    with pytest.raises(UserError, match=r"jobs\.json: this sweep has jobs .* no squeue"):
        find_jobs(sweep)


@pytest.mark.parametrize("content", ["[]", "{", "[" * 100_000], ids=["a list", "cut short", "nested"])
def test_jobs_that_cannot_be_read(at_home, content):
    sweep = read_sweep(write(at_home / "s.toml", PROBE))
    sweep.folder.mkdir(parents=True)
    write(sweep.folder / "jobs.json", content)
    with pytest.raises(UserError, match=r"jobs\.json: cannot be read"):
        find_jobs(sweep)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("echo '12_0 PENDING 0:00'", ("waiting", None)),
        ("echo '12_0 RUNNING 1-02:03:04'; echo '12_1 PENDING 0:00'", ("running", 93784)),
        ("echo '12_0 COMPLETING 5:06'", ("running", 306)),
        ("echo '12_1 RUNNING 5:06'", ("over", None)),
    ],
)
def test_what_squeue_says(at_home, monkeypatch, answer, expected):
    sweep = read_sweep(write(at_home / "s.toml", PROBE))
    leave_job(sweep)
    write(at_home / "squeue", f"#!/bin/sh\n{answer}\n").chmod(0o755)
    monkeypatch.setenv("PATH", f"{at_home}{os.pathsep}{os.environ['PATH']}")
    (found,) = find_jobs(sweep).values()
    assert (found.status, found.seconds) == expected


def test_a_squeue_that_fails_is_told(at_home, monkeypatch):
    sweep = read_sweep(write(at_home / "s.toml", PROBE))
    leave_job(sweep)
    write(at_home / "squeue", "#!/bin/sh\necho 'no controller' >&2; exit 1\n").chmod(0o755)
    monkeypatch.setenv("PATH", f"{at_home}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(UserError, match="no controller"):
        find_jobs(sweep)


def test_elapsed_times():
    assert [_seconds(text) for text in ("0:07", "1:02:03", "2-00:00:01", "INVALID")] == [7, 3723, 172801, None]
