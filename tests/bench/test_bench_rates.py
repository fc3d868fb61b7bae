"""The benchmark of learning rates measures the harness's own step, and no rate twice."""

from __future__ import annotations

import pytest
import torch

from grasp_bench import seeds
from grasp_bench.run.plan import plan

from . import bench_rates
from .bench_rates import LABELS, NARROWEST, labelled, losses, measured, rates, sizes
from .training import RandomSD3, predict, random_batch


@pytest.mark.parametrize(("name", "count"), [("lora", 3), ("vanilla-ft", 4)])
def test_a_rate_with_two_names_is_measured_once(name: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(bench_rates, "losses", lambda name, width, rate, steps: (asked.append(rate), [1.0] * steps)[1])
    found = measured(name, NARROWEST, 20)
    assert len(asked) == len(set(asked)) == count
    assert set(asked) == set(rates(name).values())
    assert found["ratios"].keys() == rates(name).keys()


@pytest.mark.parametrize("name", ["vanilla-ft", "pcgrad", "cagrad"])
def test_the_first_loss_is_the_squared_error_and_later_ones_fall(name: str) -> None:
    chosen, backbone = plan(method=name, task="digits-lt"), RandomSD3(sizes(NARROWEST))
    chosen.method.attach(backbone, chosen.task, seeds.generator("init", "rates"))
    batch = labelled(random_batch(backbone, sizes(NARROWEST), len(LABELS), torch.device("cpu")))
    error = (predict(backbone, chosen.method, batch).detach() - batch.target).square().mean().item()
    first, *_, last = losses(name, NARROWEST, 1e-3, 6)
    assert first == pytest.approx(error, rel=1e-5)
    assert last < first


def test_groups_of_classes_are_taken_apart() -> None:
    plain, surgery = (losses(name, NARROWEST, 1e-3, 6) for name in ("vanilla-ft", "cagrad"))
    assert surgery[0] == pytest.approx(plain[0])
    assert surgery[-1] != plain[-1]


def test_bare_steps_have_their_whole_rate_at_once() -> None:
    usual, bare = (losses("vanilla-ft", NARROWEST, 1e-3, 20, bare=each) for each in (False, True))
    assert bare[0] == pytest.approx(usual[0])
    assert bare[1] < usual[1]
