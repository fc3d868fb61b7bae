"""A run that is killed, however often and wherever, or started twice at once, ends as if nothing had happened."""

import functools
import json
import multiprocessing
import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from helpers import runs

from grasp_bench.contracts.record import read_record
from grasp_bench.run.files import TRAIN_LOG, TRAIN_SUMMARY, WEIGHTS

pytestmark = pytest.mark.usefixtures("quick")

KILLED = -signal.SIGKILL
STAGES = (
    "prepare",
    "train",
    "generate",
    "extractor",
    "features-real",
    "features",
    "features-train",
    "classify-real",
    "classify-generated",
    "classify-topped-up",
    "score",
    "results",
)

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    [
        "diffusers.models.transformers.transformer_sd3",
        "diffusers.schedulers.scheduling_flow_match_euler_discrete",
        "grasp_bench.cli.run",
        "grasp_bench.run.environment",
        "grasp_bench.run.pipeline",
        "matplotlib.backends.backend_agg",
        "matplotlib.figure",
        "pytest",
        "scipy.linalg",
        "sklearn.datasets",
    ]
)


class Watch:
    """Notes every change to the files under ``folder``, and dies at the first one that is not before ``fatal``.

    ``order`` lists the changes that an undisturbed run makes; ``after`` tells whether the fatal one is still made.
    A write that is cut short leaves half a temporary file behind.
    """

    def __init__(self, folder: Path, order: list[str], fatal: str | None, after: bool) -> None:
        self.folder, self.after = folder, after
        self.fatal = set(order[order.index(fatal) :]) if fatal else set()
        Path.replace = self.watched("write", Path.replace, 1)
        Path.unlink = self.watched("remove", Path.unlink, 0)
        shutil.copyfile = self.watched("write", shutil.copyfile, 1)

    def watched(self, verb, function, position):
        @functools.wraps(function)
        def call(*arguments, **options):
            path = Path(arguments[position])
            if path.name.startswith("."):  # temporary, and named after the process
                return function(*arguments, **options)
            change = self.name(verb, path)
            with (self.folder / "changes").open("a") as file:
                print(change, file=file)
            if change in self.fatal and not self.after:
                if Path(arguments[0]).suffix == ".tmp":
                    runs.truncate(Path(arguments[0]))
                os.kill(os.getpid(), signal.SIGKILL)
            done = function(*arguments, **options)
            if change in self.fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return call

    def name(self, verb: str, path: Path) -> str:
        """Such as "write train/step-00000004.safetensors"."""
        top, stage, *_ = path.relative_to(self.folder).parts
        name = re.sub(r"\.?[0-9a-f]{16,}", "", path.name) or "folder"
        return f"{verb} {stage if top == 'work' else top}/{name}"


def child(folder, plan_changes, only_train, order=(), fatal=None, after=False):
    with runs.quick():
        Watch(folder, list(order), fatal, after)
        (runs.train_only if only_train else runs.finish)(folder, runs.small(**plan_changes))


def attempt(*arguments, kill_after=None) -> int:
    """Exit status of a process that goes on with the run; killed after so many seconds, or at its fatal change."""
    process = context.Process(target=child, args=arguments)
    process.start()
    if kill_after is not None:
        process.join(kill_after)
        process.kill()
    process.join()
    return process.exitcode


def changes(folder: Path) -> list[str]:
    return (folder / "changes").read_text().splitlines()


def stage_of(change: str) -> str:
    return re.split("[ /]", change)[1]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """(outcome, changes) of a run that nobody kills."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert attempt(folder, {}, False) == 0
    return result(folder), list(dict.fromkeys(changes(folder)))


def result(folder: Path) -> dict:
    (path,) = (folder / "results").rglob("record.json")
    return runs.outcome(read_record(path))


@pytest.mark.slow
def test_killed_at_writes_and_removals_of_every_stage(undisturbed, tmp_path):
    expected, order = undisturbed
    rng = np.random.default_rng(0)
    by_stage = {stage: [change for change in order if stage_of(change) == stage] for stage in STAGES}
    fatal = {str(rng.choice(by_stage[stage])) for stage in STAGES}
    fatal |= set(rng.choice(by_stage["train"] + by_stage["generate"], 6, replace=False))

    died_in = []
    for change in sorted(fatal, key=order.index):
        assert attempt(tmp_path, {}, False, order, change, bool(rng.integers(2))) == KILLED
        died_in.append(stage_of(changes(tmp_path)[-1]))
    assert len(died_in) >= 10
    assert len(set(died_in)) >= 5

    assert attempt(tmp_path, {}, False) == 0
    assert result(tmp_path) == expected


@pytest.mark.slow
def test_killed_at_random_moments(undisturbed, tmp_path):
    expected, _ = undisturbed
    for moment in np.random.default_rng(1).uniform(0.3, 2, 8):
        status = attempt(tmp_path, {}, False, kill_after=moment)
        assert status in (KILLED, 0)
        if status == 0:
            break
    assert attempt(tmp_path, {}, False) == 0
    assert result(tmp_path) == expected


@pytest.mark.slow
def test_two_processes_at_once_share_the_work(undisturbed, tmp_path):
    expected, order = undisturbed
    processes = [context.Process(target=child, args=(tmp_path, {}, False)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert result(tmp_path) == expected
    finished = [change for change in changes(tmp_path) if change.endswith("/stage.json")]
    assert sorted(finished) == sorted(change for change in order if change.endswith("/stage.json"))


@pytest.mark.slow
@pytest.mark.parametrize("changed", [{"method": "moe"}, {"task_settings": ["ema_decay=0.9"]}], ids=["moe", "ema"])
def test_training_goes_on_with_everything_it_keeps(changed, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    assert attempt(whole, changed, True) == 0
    order = list(dict.fromkeys(changes(whole)))
    for change, after in [
        ("write train/step-00000008.safetensors", True),
        ("write train/step-00000016.safetensors", False),
        ("write train/train.json", False),
        ("remove train/step-00000020.safetensors", False),
    ]:
        assert attempt(killed, changed, True, order, change, after) == KILLED
    assert attempt(killed, changed, True) == 0
    assert trained(killed) == trained(whole)


def trained(folder: Path) -> tuple[bytes, dict, list[dict]]:
    """Weights, summary and log of the only training in a work folder, without what was measured by a clock."""
    (summary,) = (folder / "work" / "train").glob(f"*/{TRAIN_SUMMARY}")
    clocked = ("seconds", "peak_memory_mib", "images_per_second")
    parts = [json.loads(summary.read_text()), *runs.log_rows(summary.with_name(TRAIN_LOG))]
    parts = [{name: value for name, value in part.items() if name not in clocked} for part in parts]
    return summary.with_name(WEIGHTS).read_bytes(), parts[0], parts[1:]
