"""Processes that wait for each other, with a bound."""

import os
import threading
import time
from datetime import timedelta
from types import SimpleNamespace

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


def test_one_that_does_nothing_for_an_hour_is_named_with_the_file_that_is_missing(tmp_path, monkeypatch):
    now, slept = [0.0], []

    def sleep(seconds):
        now[0] += 60
        slept.append(seconds)
        if len(slept) < 100:  # minutes in which the other one works
            os.utime(tmp_path / "at-work", (len(slept), len(slept)))

    (tmp_path / "at-work").touch()
    monkeypatch.setattr(processes, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    message = r"done is missing: process 1 has done nothing for 60 minutes, .* repeat the command"
    with pytest.raises(UserError, match=message):
        Processes(0, 2)._wait_for(1, tmp_path / "done", tmp_path / "at-work")
    assert len(slept) == 160
    (tmp_path / "done").touch()
    Processes(0, 2)._wait_for(1, tmp_path / "done", tmp_path / "never-there")


def test_one_that_never_came_is_missed(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(processes, "PATIENCE", timedelta(seconds=0.1))
    monkeypatch.setattr(Processes, "first_says", lambda self, decide: "a")
    with pytest.raises(UserError, match=r"\.a\.1\.tmp is missing"), Processes(0, 2).apart(tmp_path):
        pass


def test_only_a_thread_that_does_something_tells_that_it_is_at_work(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "TELL_SECONDS", 0.01)
    path, go_on, end = tmp_path / "at-work", threading.Event(), threading.Event()

    def work():
        with processes._telling(path):
            go_on.wait()
            while not end.is_set():
                sum(range(1000))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while not path.exists():
        time.sleep(0.01)
    time.sleep(0.5)
    first = path.stat().st_mtime_ns
    time.sleep(0.3)
    assert path.stat().st_mtime_ns == first
    go_on.set()
    while path.stat().st_mtime_ns == first:
        time.sleep(0.01)
    end.set()
    thread.join(20)
    assert not thread.is_alive()
