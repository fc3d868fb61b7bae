"""What is put into shards is read by the first process alone, which sends the others theirs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from grasp_bench.run.training import placement


@pytest.fixture(params=[0, 1])
def rank(request: pytest.FixtureRequest) -> Iterator[int]:
    distributed.init_process_group("fake", store=FakeStore(), rank=request.param, world_size=2)
    yield request.param
    distributed.destroy_process_group()


def test_the_first_process_alone_reads_what_is_put_into_shards(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[torch.Tensor] = []
    monkeypatch.setattr(placement, "distribute_tensor", lambda tensor, mesh, places: given.append(tensor))
    parameter = DTensor.from_local(torch.zeros(2, 3), init_device_mesh("cpu", (2,)), [Shard(0)])
    mapped = torch.ones(4, 3)
    placement.placed_like(mapped, parameter)
    (source,) = given
    assert source.shape == mapped.shape
    assert source.dtype == mapped.dtype
    assert (source is mapped) == (rank == 0)
    assert placement.placed_like(torch.ones(5), parameter).shape == (5,)  # of another shape: each has the whole
    assert len(given) == 1
