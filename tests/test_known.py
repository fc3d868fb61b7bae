"""Values that were sent to a device are known without reading them there; the device ``meta`` has none to read."""

from __future__ import annotations

import gc

import pytest
import torch
from helpers import runs

from grasp_bench import known as module
from grasp_bench.adapters.residual import Route
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.contracts.method import Condition
from grasp_bench.contracts.scope import current_scope
from grasp_bench.known import is_known, joined, known, noted, on_host

META = torch.device("meta")
NUMBERS = torch.tensor([2, 0, 1, 0, 2, 1])


def test_what_was_sent_is_known_and_so_are_views_of_it():
    there = known(NUMBERS, META)
    assert torch.equal(on_host(there), NUMBERS)
    assert torch.equal(on_host(there[2:5]), NUMBERS[2:5])
    with torch.no_grad():
        rows = known(torch.tensor([0.1, 0.9]), META)[:, None].expand(-1, 3)
        assert torch.equal(on_host(rows[1]), torch.tensor([0.9, 0.9, 0.9]))


def test_what_is_joined_of_known_parts_is_known():
    there = known(NUMBERS, META)
    assert torch.equal(on_host(joined(there[:2], there[3:])), torch.cat([NUMBERS[:2], NUMBERS[3:]]))
    assert not is_known(joined(there, torch.zeros(2, dtype=torch.long, device=META)))


def test_what_was_changed_or_computed_is_not():
    there = known(NUMBERS, META)
    assert not is_known(there + 1)
    assert not is_known(there.view(torch.float64))
    there.add_(1)
    assert not is_known(there)
    with pytest.raises(NotImplementedError):  # of reading it
        on_host(there)


def test_on_the_cpu_tensors_are_themselves():
    assert known(NUMBERS, NUMBERS.device) is NUMBERS
    assert on_host(NUMBERS) is NUMBERS
    assert noted(NUMBERS, NUMBERS) is NUMBERS


def test_nothing_is_kept_longer_than_what_was_sent():
    there = known(NUMBERS, META)
    before = len(module._known)
    del there
    gc.collect()
    assert len(module._known) < before


def condition(device: torch.device) -> Condition:
    labels, dropped = torch.tensor([9, 0, 5, 0]), torch.tensor([False, True, False, False])
    prompts = TinySD3.load().encode_prompts(["", "", "", ""])
    times = torch.tensor([0.1, 0.9, 0.5, 0.3])
    return Condition(known(labels, device), known(dropped, device), prompts, known(times, device))


@pytest.mark.parametrize("method", ["grasp", "grasp-timestep"])
def test_routes_read_nothing_from_the_device(method):
    chosen = runs.small(method, method_settings=["null_route=null"] if method == "grasp" else [])
    chosen.method.attach(TinySD3.load(), chosen.task, torch.Generator().manual_seed(0))

    def segments(device: torch.device) -> tuple[tuple[int, int, int], ...]:
        asked = condition(device)
        with chosen.method.condition(asked[:3].cat(asked)):
            route = current_scope()
        assert isinstance(route, Route)
        assert route.order.device == device
        return route.segments

    assert segments(META) == segments(torch.device("cpu"))
    assert len(segments(META)) > 2
