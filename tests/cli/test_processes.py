"""`grasp-bench run --processes N`, as a user gives it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from grasp_bench.io import read_tensors

RUN = ("run", "--method", "grasp", "--task", "digits-lt", "--budget", "smoke", "--device", "cpu", "--batch-size", "7")


def grasp_bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "grasp_bench", *RUN, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def record(folder: Path) -> dict:
    (path,) = folder.glob("results/*/*/seed-0/record.json")
    return json.loads(path.read_text())


def stage(folder: Path, name: str) -> Path:
    (found,) = (folder / ".grasp-bench" / name).glob("*/stage.json")
    return found.parent


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    done = grasp_bench(folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_two_processes_come_to_the_scores_of_one(alone, tmp_path):
    done = grasp_bench(tmp_path, "--processes", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("record: ") == 1
    one, two = record(alone), record(tmp_path)
    assert (one["environment"]["processes"], two["environment"]["processes"]) == (1, 2)
    assert two["run_id"] == one["run_id"]
    assert two["streams"] == one["streams"]
    images = [read_tensors(stage(folder, "generate") / "images.safetensors") for folder in (alone, tmp_path)]
    assert torch.equal(images[0]["labels"], images[1]["labels"])
    off = (images[0]["images"].int() - images[1]["images"].int()).abs()
    assert off.max() <= 1  # weights differ in their last bits
    assert (off > 0).double().mean() < 0.01
    metrics = [
        {(m["metric"], m["source"], m["test_set"], m["group"], m["scope"]): m["value"] for m in each["scores"]}
        for each in (one, two)
    ]
    assert metrics[0].keys() == metrics[1].keys()
    for key, value in metrics[0].items():
        if key[0] == "fd":
            assert metrics[1][key] == pytest.approx(value, rel=1e-3)


@pytest.mark.slow
def test_images_and_features_are_shared_without_gaps_or_duplicates(alone, tmp_path):
    """From the same weights two processes make the very images that one does, and extract the very features."""
    shutil.copytree(alone / ".grasp-bench", tmp_path / ".grasp-bench")
    for name in ("generate", "features", "features-real", "score"):
        shutil.rmtree(stage(tmp_path, name))
    done = grasp_bench(tmp_path, "--processes", "2")
    assert done.returncode == 0, done.stderr
    for name in ("generate/images.safetensors", "features/features.safetensors", "features-real/features.safetensors"):
        folder, _, file = name.partition("/")
        found, expected = (read_tensors(stage(where, folder) / file) for where in (tmp_path, alone))
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert record(tmp_path)["scores"] == record(alone)["scores"]


@pytest.mark.slow
@pytest.mark.parametrize("guidance", [["sg-minority"], ["distilled", "--guidance-set", "steps=20"]], ids=" ".join)
def test_guidances_that_take_gradients_wait_for_no_other_process(tmp_path, guidance):
    """One of two samples a batch more than the other, or learns alone."""
    command = [sys.executable, "-m", "grasp_bench", "run", "--method", "moe", *RUN[3:], "--guidance", *guidance]
    done = subprocess.run([*command, "--processes", "2"], cwd=tmp_path, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert record(tmp_path)["status"] == "finished"


@pytest.mark.slow
def test_a_mistake_in_several_processes_is_one_message_before_any_is_started(tmp_path):
    done = grasp_bench(tmp_path, "--processes", "3")
    assert done.returncode == 2
    assert done.stderr.count("error: ") == 1
    assert "cannot be shared evenly by 3 processes" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("count", "number"), [(1, signal.SIGTERM), (2, signal.SIGINT)])
def test_a_run_that_is_stopped_is_recorded_as_cancelled_and_goes_on(tmp_path, count, number):
    shared = ["--processes", str(count)]
    often = ["--log-every", "1", "--checkpoint-minutes", "0"]
    command = [sys.executable, "-m", "grasp_bench", *RUN, *often, "--task-set", "ema_decay=0.5", *shared]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not list(tmp_path.rglob("step-*.safetensors")):
        time.sleep(0.05)
        assert process.poll() is None
    os.kill(process.pid, number)
    assert process.wait() == 130
    assert record(tmp_path)["status"] == "cancelled"
    assert grasp_bench(tmp_path, "--task-set", "ema_decay=0.5", *shared).returncode == 0
    assert record(tmp_path)["status"] == "finished"


@pytest.mark.slow
def test_a_run_that_is_asked_to_end_writes_a_checkpoint_in_time_and_goes_on(tmp_path):
    (tmp_path / "longer.toml").write_text('base = "smoke"\nsteps = 300\n')  # than a signal takes on a busy machine
    shared = ["--budget", "longer.toml", "--processes", "2", "--log-every", "1"]
    command = [sys.executable, "-m", "grasp_bench", *RUN, *shared]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not list(tmp_path.rglob("train.jsonl")):
        time.sleep(0.01)
        assert process.poll() is None
    assert not list(tmp_path.rglob("step-*.safetensors"))
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == 130
    assert len(list(tmp_path.rglob("step-*.safetensors"))) == 1
    assert record(tmp_path)["status"] == "cancelled"
    assert "ended by a signal after step" in record(tmp_path)["reason"]
    done = grasp_bench(tmp_path, *shared)
    assert done.returncode == 0, done.stderr
    assert "resuming after step" in done.stderr
    assert record(tmp_path)["status"] == "finished"


@pytest.mark.slow
def test_processes_do_not_outlive_their_launcher(tmp_path):
    command = [sys.executable, "-m", "grasp_bench", *RUN, "--processes", "2", "--log-every", "1"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not list(tmp_path.rglob("train.jsonl")):
        time.sleep(0.01)
    working = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(working) >= 2
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(_lives(number) for number in working):
        assert time.monotonic() < deadline, "a process outlives its launcher"
        time.sleep(0.1)


def _lives(number: str) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
