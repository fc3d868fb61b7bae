"""Processes that wait for each other, with a bound."""

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
