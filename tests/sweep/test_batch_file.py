"""The batch file of the documentation: a run without a sweep that is requeued ahead of its time limit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from docs.pages import ROOT, blocks

from .cluster import cluster, missing
from .sweeps import records, wait_for
from .test_slurm import restarts

COMMAND = "--method grasp --task mimic-lt --processes 4"
SITE = ("--gres", "--cpus-per-task", "--mem", "--time", "--signal")
"""What a machine of the tests cannot give, or need not wait for."""
STEPS = "--log-every 1 --batch-size 20 --device cpu --task digits-lt --budget smoke"


def batch_file(seconds: float) -> str:
    """The file, with a run of some seconds a step in the place of its own."""
    (block,) = [block for block in blocks(ROOT / "docs" / "slurm.md") if block.text.startswith("#!")]
    assert COMMAND in block.text
    lines = [line for line in block.text.splitlines() if not line.startswith(tuple(f"#SBATCH {each}" for each in SITE))]
    return "\n".join(lines).replace(COMMAND, f"--method probe --set seconds={seconds} {STEPS}") + "\n"


@pytest.fixture
def script(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(at_home))
    monkeypatch.setenv("USER", "somebody")
    monkeypatch.setenv("SLURM_TMPDIR", str(at_home / "node"))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    path = at_home / "run.sbatch"
    path.write_text(batch_file(0.3))
    return path


def logged(home: Path) -> int:
    """Steps that the training has logged on the node's disk."""
    found = list((home / "node").rglob("train.jsonl"))
    return len(found[0].read_text().splitlines()) if found else 0


def kept(home: Path) -> list[str]:
    return sorted(path.name[:13] for path in (home / "grasp-bench").rglob("step-*.safetensors"))


def outcome(home: Path) -> dict:
    (record,) = records(home / "grasp-bench").values()
    assert record["status"] == "finished"
    return {name: record[name] for name in ("weights", "streams", "scores")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict:
    from . import sweeps

    home = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        sweeps.install_probe(home / "site", patch)
        command = [sys.executable, "-m", "grasp_bench", "run", "--method", "probe", "--set", "seconds=0.3"]
        subprocess.run([*command, *STEPS.split(), "--results", home / "grasp-bench" / "results"], cwd=home, check=True)
    return outcome(home)


@pytest.mark.slow
def test_a_warning_makes_a_checkpoint_and_requeues_and_another_node_goes_on(at_home, script, undisturbed, monkeypatch):
    stand_in = at_home / "bin" / "scontrol"
    stand_in.parent.mkdir()
    stand_in.write_text(f'#!/bin/sh\necho "$@" >> {at_home}/asked\n')
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(stand_in.parent), os.environ["PATH"]]))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with subprocess.Popen(["bash", script], cwd=at_home) as job:
        wait_for(lambda: logged(at_home) > 3)
        assert kept(at_home) == []
        job.send_signal(signal.SIGUSR1)
        assert job.wait(60) == 130
    assert (at_home / "asked").read_text() == "requeue 7\n"
    assert len(kept(at_home)) == 1
    shutil.rmtree(at_home / "node")

    again = subprocess.run(["bash", script], cwd=at_home, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "resuming after step" in again.stderr
    assert (at_home / "asked").read_text() == "requeue 7\n"
    assert outcome(at_home) == undisturbed


@pytest.mark.slow
@pytest.mark.slurm
@pytest.mark.skipif(bool(missing()), reason=f"needs slurm-wlm and munge; not installed: {', '.join(missing())}")
def test_on_a_cluster_the_job_is_queued_again_and_finishes(at_home, script, undisturbed, tmp_path_factory, monkeypatch):
    with cluster(tmp_path_factory.mktemp("cluster")) as config:
        monkeypatch.setenv("SLURM_CONF", str(config))
        submitted = subprocess.run(["sbatch", "--parsable", script], cwd=at_home, capture_output=True, text=True)
        number = submitted.stdout.strip()
        wait_for(lambda: logged(at_home) > 3)
        subprocess.run(["scancel", "--batch", "--signal=USR1", number], check=True)  # as before its time is over
        wait_for(lambda: restarts(number) == 1, 60)
        assert len(kept(at_home)) == 1
        wait_for(lambda: any(each["status"] == "finished" for each in records(at_home / "grasp-bench").values()), 200)
        log = (at_home / f"slurm-{number}.out").read_text()
    assert "resuming after step" in log
    assert outcome(at_home) == undisturbed
