"""Processes that wait for each other, with a bound."""

import threading
import time
from datetime import timedelta

import pytest
import torch

from grasp_bench import processes
from grasp_bench.errors import UserError
from grasp_bench.processes import Processes


def failing(message):
    def call(*_):
        raise RuntimeError(message)

    return call


@pytest.mark.parametrize("message", ["Timed out waiting 3600000ms for recv", "wait timeout after 3600000ms"])
def test_an_hour_of_waiting_ends_with_what_to_do(monkeypatch, message):
    assert timedelta(hours=1) == processes.PATIENCE
    monkeypatch.setattr(torch.distributed, "barrier", failing(message))
    monkeypatch.setattr(torch.distributed, "broadcast_object_list", failing(message))
    for wait in (Processes(1, 2).wait, lambda: Processes(1, 2).first_says(lambda: 1)):
        with pytest.raises(UserError, match=r"process 1 has waited 60 minutes for the others: .* repeat the command"):
            wait()


def test_other_faults_stay_what_they_are(monkeypatch):
    monkeypatch.setattr(torch.distributed, "barrier", failing("Connection closed by peer"))
    with pytest.raises(RuntimeError, match="Connection closed"):
        Processes(1, 2).wait()


def test_one_that_has_done_its_part_looks_at_files_until_the_others_have(tmp_path, monkeypatch):
    tokens = iter(["a", "a", "b"])
    monkeypatch.setattr(processes, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(Processes, "first_says", lambda self, decide: next(tokens))
    monkeypatch.setattr(Processes, "wait", lambda self: None)
    happened = []

    def work(index, seconds):
        with Processes(index, 2).apart(tmp_path):
            time.sleep(seconds)
            happened.append(f"{index} is done")
        happened.append(f"{index} goes on")

    threads = [threading.Thread(target=work, args=given) for given in ((0, 0), (1, 0.5))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert happened[:2] == ["0 is done", "1 is done"]
    assert sorted(happened[2:]) == ["0 goes on", "1 goes on"]

    again = threading.Thread(target=work, args=(0, 0), daemon=True)  # what an earlier attempt left counts for nothing
    again.start()
    again.join(0.3)
    assert again.is_alive()
    (tmp_path / ".b.1.tmp").touch()
    again.join(20)
    assert not again.is_alive()
