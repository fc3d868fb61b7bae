"""Several processes that share a run see and learn what one alone does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from helpers import runs

from grasp_bench.io import read_tensors
from grasp_bench.run.files import TRAIN_LOG, TRAIN_SUMMARY, WEIGHTS

TESTS = Path(__file__).parents[1]
SMOKE = {"task": "digits-lt", "budget": "smoke"}
METHODS = ("vanilla-ft", "lora", "moe", "grasp", "cm")
ALIKE = {name: ({"method": name} | SMOKE, {}) for name in METHODS}
EMA = {"grasp-ema": ({"method": "grasp", "task_settings": ["ema_decay=0.9"]} | SMOKE, {"trackers": ["tensorboard"]})}
SURGERY = {"pcgrad": ({"method": "pcgrad", "method_settings": ["on=lora"]} | SMOKE, {})}
PARTS = {"grasp-parts": ({"method": "grasp"} | SMOKE, {"accumulate": 2})}
CHECKPOINTED = {"moe-checkpointed": ({"method": "moe"} | SMOKE, {"gradient_checkpointing": True})}
SHARDS = {f"{name}-shards": ({"method": name} | SMOKE, {"shard": True}) for name in METHODS}
SHARDED_PARTS = {"vanilla-ft-shards-parts": ({"method": "vanilla-ft"} | SMOKE, {"shard": True, "accumulate": 2})}


class Trained(NamedTuple):
    count: int
    streams: str
    losses: list[float]
    group_losses: list[dict[str, float | None]]
    usage: list[Any]
    weights: dict[str, torch.Tensor]


class Launched(NamedTuple):
    """How the processes of a job ended."""

    returncode: int
    stderr: str


class Launcher:
    """Starts processes that train: forks of one that has imported everything."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "run.shared_training"]
        self.process = subprocess.Popen(command, cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, count: int, folder: Path, asked: dict[str, Any], **environment: str) -> Launched:
        job = {"count": count, "folder": str(folder), "asked": asked, "environment": environment}
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps(job), file=self.process.stdin, flush=True)
        return Launched(**json.loads(self.process.stdout.readline()))

    def share(self, count: int, folder: Path, asked: dict[str, Any], **environment: str) -> dict[str, Trained]:
        """What became of training in ``count`` processes."""
        done = self(count, folder, asked, **environment)
        assert done.returncode == 0, done.stderr[-5000:]
        return {name: outcome(folder / name) for name in asked}


@pytest.fixture(scope="module")
def launched() -> Iterator[Launcher]:
    launcher = Launcher()
    yield launcher
    launcher.process.kill()
    launcher.process.communicate()


def outcome(folder: Path) -> Trained:
    found = json.loads((folder / "outcome.json").read_text())
    trained = Path(found["trained"])
    summary = json.loads((trained / TRAIN_SUMMARY).read_text())
    rows = runs.log_rows(trained / TRAIN_LOG)
    return Trained(
        found["count"],
        summary["streams"],
        [row["loss"] for row in rows],
        [row["group_loss"] for row in rows],
        [row["method"] for row in rows],
        read_tensors(trained / WEIGHTS),
    )


@pytest.fixture(scope="module")
def alone(launched, tmp_path_factory) -> dict[str, Trained]:
    return launched.share(1, tmp_path_factory.mktemp("alone"), ALIKE | EMA | SURGERY | PARTS)


@pytest.fixture(scope="module")
def two(launched, tmp_path_factory) -> dict[str, Trained]:
    return launched.share(
        2, tmp_path_factory.mktemp("two"), ALIKE | EMA | SURGERY | PARTS | CHECKPOINTED | SHARDS | SHARDED_PARTS
    )


@pytest.fixture(scope="module")
def four(launched, tmp_path_factory) -> dict[str, Trained]:
    asked = {name: ALIKE[name] for name in ("moe", "grasp")} | {"grasp-shards": SHARDS["grasp-shards"]}
    return launched.share(4, tmp_path_factory.mktemp("four"), asked)


def _numbers(losses: dict[str, float | None]) -> dict[str, float]:
    """Group → loss, infinite for a group that was not seen."""
    return {group: float("inf") if loss is None else loss for group, loss in losses.items()}


def assert_same(found: Trained, expected: Trained, switches: bool = False) -> None:
    """Equal up to sums in another order: the loss curve to 1e-5.

    ``switches``: whether tokens choose their experts. Where two experts score alike but for rounding, a token goes to
    the other one, a step that rounding alone does not make: the curve then agrees to 1e-5 up to its middle, and to
    1e-4 to its end.
    """
    assert found.streams == expected.streams
    for rows, known in ((found.losses, expected.losses), (found.group_losses, expected.group_losses)):
        assert len(rows) == len(known)
        for number, (row, same) in enumerate(zip(rows, known, strict=True)):
            row, same = (each if isinstance(each, float) else _numbers(each) for each in (row, same))
            assert row == pytest.approx(same, rel=1e-4 if switches and number >= len(known) // 2 else 1e-5)
    assert found.weights.keys() == expected.weights.keys()
    for name, value in found.weights.items():
        # AdamW's first steps make much of an entry whose gradient is nearly nothing, so not entry by entry
        assert torch.dist(value, expected.weights[name]) <= 1e-3 * expected.weights[name].norm(), name


@pytest.mark.slow
@pytest.mark.parametrize("name", [*ALIKE, *EMA, *SURGERY, *PARTS])
def test_two_processes_learn_what_one_does(alone, two, name):
    assert (alone[name].count, two[name].count) == (1, 2)
    assert_same(two[name], alone[name], switches=name == "moe")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SHARDS, *SHARDED_PARTS, *CHECKPOINTED])
def test_shards_and_checkpointing_change_nothing(alone, two, name):
    assert two[name].count == 2
    method = name.split("-shards")[0].split("-checkpointed")[0]
    assert_same(two[name], alone[method], switches=method == "moe")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["moe", "grasp", "grasp-shards"])
def test_four_processes_learn_what_one_does(alone, four, name):
    """Some of them have no sample of a cluster that others have."""
    assert four[name].count == 4
    assert_same(four[name], alone[name.removesuffix("-shards")], switches=name == "moe")


@pytest.mark.slow
def test_expert_usage_is_that_of_all_samples(alone, two):
    for found, expected in zip(two["moe"].usage, alone["moe"].usage, strict=True):
        for group, shares in expected["expert_usage"].items():
            assert found["expert_usage"][group] == pytest.approx(shares, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("room", "parts", "checkpointing"), [(3, 4, False), (0, 8, True)])
def test_a_step_with_shards_is_made_to_fit_by_what_few_samples_take(
    launched, alone, tmp_path, room, parts, checkpointing
):
    """Each process has eight samples; without room for one, activations are recomputed."""
    asked = {"fits": (ALIKE["grasp"][0], {"shard": True})}
    found = launched.share(2, tmp_path, asked, ROOM=str(room))["fits"]
    summary = json.loads(next(tmp_path.rglob(TRAIN_SUMMARY)).read_text())
    assert (summary["accumulate"], summary["gradient_checkpointing"]) == (parts, checkpointing)
    assert_same(found, alone["grasp"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "runs_out", "tried"),
    [
        ("grasp", "0.5 backwards", "8 4 2 1 8 4 2"),
        ("pcgrad", "4 backwards", "8 4"),
        ("moe", "4 forwards", "8 8"),
    ],
)
def test_memory_that_runs_out_in_one_process_makes_steps_smaller_in_all(
    launched, alone, tmp_path, name, runs_out, tried
):
    """The loss of moe exchanges numbers in the middle of a step, whose batch stays whole; others are halved first."""
    found = launched.share(2, tmp_path, {name: (ALIKE | SURGERY)[name]}, RUNS_OUT=runs_out)[name]
    seen = [(tmp_path / f"passes-{i}.txt").read_text().split() for i in range(2)]
    first, rest = seen[1][2:][: len(tried.split())], seen[1][2 + len(tried.split()) :]
    assert (" ".join(first), set(rest)) == (tried, {tried[-1]})
    assert seen[0][-len(rest) :] == rest  # the other process has worked on all parts of what was tried
    summary = json.loads(next(tmp_path.rglob(TRAIN_SUMMARY)).read_text())
    assert summary["accumulate"] == 8 // int(tried[-1])
    assert summary["gradient_checkpointing"] is (name == "moe" or runs_out == "0.5 backwards")
    assert_same(found, alone[name], switches=name == "moe")


@pytest.mark.slow
def test_memory_that_runs_out_with_shards_is_an_end_that_says_what_to_ask_for(launched, tmp_path):
    ended = launched(2, tmp_path, {"grasp-shards": SHARDS["grasp-shards"]}, RUNS_OUT="4 forwards")
    assert ended.returncode == 1
    assert "OutOfMemoryError" in ended.stderr
    assert "Try --accumulate 2 --gradient-checkpointing off" in ended.stderr


@pytest.mark.slow
def test_parts_of_a_step_add_up_to_it(alone):
    assert_same(alone["grasp-parts"], alone["grasp"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "then", "options"), [(1, 2, {}), (2, 1, {}), (2, 2, SHARDS["grasp-shards"][1])], ids=str
)
def test_a_run_resumes_in_another_number_of_processes_or_in_shards(launched, alone, tmp_path, first, then, options):
    ended = {"grasp": (ALIKE["grasp"][0], options)}
    stopped = launched(first, tmp_path, ended, STOP_AT_STEP="7")
    assert stopped.returncode == 0, stopped.stderr[-3000:]
    assert not (tmp_path / "grasp" / "outcome.json").exists()
    checkpoint = max(tmp_path.rglob("step-*.safetensors"))
    assert checkpoint.name.startswith("step-00000006.")
    found = launched.share(then, tmp_path, ended)["grasp"]
    assert found.count == then
    assert_same(found, alone["grasp"])
