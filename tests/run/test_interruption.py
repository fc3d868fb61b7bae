"""Signals that ask a run to end: a training answers with a checkpoint, everything else at once."""

import os
import signal
import subprocess
import sys

import pytest
import torch
from helpers import runs
from helpers.signals import listening

from grasp_bench.contracts.record import read_record
from grasp_bench.io import read_tensors
from grasp_bench.run.files import WEIGHTS
from grasp_bench.run.interruption import SIGNALS, Ended, listen, postponed


@pytest.fixture(autouse=True)
def answered():
    with listening():
        yield


def ask(number: signal.Signals):
    def call(output: torch.Tensor) -> torch.Tensor:
        os.kill(os.getpid(), number)
        return output

    return call


@pytest.mark.parametrize("number", SIGNALS)
def test_outside_of_a_training_a_signal_ends_the_run_at_once(number):
    with pytest.raises(KeyboardInterrupt) as caught:
        os.kill(os.getpid(), number)
    assert not isinstance(caught.value, Ended)


def test_inside_it_is_noted_and_what_nobody_answers_counts_at_the_end():
    def unanswered():
        with postponed() as asked:
            assert not asked()
            os.kill(os.getpid(), signal.SIGUSR1)
            assert asked()

    with pytest.raises(KeyboardInterrupt):
        unanswered()


def test_a_signal_that_was_blocked_until_now_is_answered():
    """In a process of its own: a thread of this one, in which the signal is not blocked, would die of it."""
    code = """
import os, signal
from grasp_bench.run.interruption import SIGNALS, listen
signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
os.kill(os.getpid(), signal.SIGUSR1)
try:
    listen()
except KeyboardInterrupt:
    print("answered")
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "answered\n"


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("method", ["grasp", "moe"])
def test_a_training_writes_a_checkpoint_and_goes_on_to_the_same_bits(tmp_path, number, method):
    expected = read_tensors(runs.train_only(tmp_path / "undisturbed", runs.small(method)) / WEIGHTS)
    folder, often = tmp_path / "asked", {"checkpoint_minutes": 10}
    with pytest.MonkeyPatch.context() as patch:
        runs.fail_at_step(patch, 6, ask(number))
        with pytest.raises(Ended):
            runs.finish(folder, runs.small(method), **often)
    assert [path.name[:13] for path in folder.rglob("step-*.safetensors")] == ["step-00000007"]
    (record,) = map(read_record, folder.rglob("record.json"))
    assert record.status == "cancelled"
    assert record.reason == (
        "ended by a signal after step 7, of which there is a checkpoint; the same command goes on from here"
    )
    listen()  # as a process that is started again
    listener = runs.Listener()
    found = read_tensors(runs.train_only(folder, runs.small(method), listener, **often) / WEIGHTS)
    assert "resuming after step 7" in listener.said
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
