"""Gradient surgery: closed forms on two quadratics, and a step's gradient as the training loop makes it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import runs
from helpers.attaching import attach, sample
from pydantic import ValidationError
from scipy.optimize import minimize, minimize_scalar

from grasp_bench.baselines.grasp import Grasp
from grasp_bench.baselines.lora import Lora
from grasp_bench.baselines.moe import MixtureOfExperts
from grasp_bench.baselines.surgery import Cagrad, Pcgrad
from grasp_bench.contracts.method import Batch
from grasp_bench.contracts.surgery import Surgery
from grasp_bench.errors import UserError
from grasp_bench.processes import ALONE
from grasp_bench.run.options import Options
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.plan import plan
from grasp_bench.run.training.backward import GroupLoss, backward
from grasp_bench.run.training.placement import Placement


def stream() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def quadratics(point: list[float]) -> torch.Tensor:
    """Gradients of ½ ‖x - (1, 0)‖² and of 2 ‖x + (1, 0)‖² at a point: between both minima they conflict."""
    x = torch.tensor(point)
    return torch.stack([x - torch.tensor([1.0, 0.0]), 4 * (x + torch.tensor([1.0, 0.0]))])


def surgeon(kind: type[Any], **settings: Any) -> Any:
    return attach(kind, on="lora", **settings)[1]


@pytest.mark.parametrize("point", [[0.0, 1.0], [0.5, 0.2]])
def test_pcgrad_projects_both_gradients_of_two_quadratics(point) -> None:
    first, second = gradients = quadratics(point)
    product = first @ second
    assert product < 0 or point == [0.0, 1.0]
    expected = gradients.sum(0)
    if product < 0:
        expected = first - product / second.dot(second) * second + second - product / first.dot(first) * first
    torch.testing.assert_close(surgeon(Pcgrad).combine(gradients, stream()), expected)


def test_pcgrad_projects_on_the_original_gradients_one_after_the_other() -> None:
    gradients = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 1.0, 0.0], [-1.0, -1.0, 1.0]])
    found = {tuple(surgeon(Pcgrad).combine(gradients, stream().manual_seed(seed)).tolist()) for seed in range(20)}
    assert len(found) > 1  # the order matters, and comes from the stream
    first = surgeon(Pcgrad).combine(gradients, stream())
    assert torch.equal(first, surgeon(Pcgrad).combine(gradients, stream()))

    def projected(own: int, order: tuple[int, ...]) -> torch.Tensor:
        gradient = gradients[own]
        for other in order:
            gradient = (
                gradient
                - (gradient @ gradients[other]).clamp(max=0) / 3 ** (other == 2) / 2 ** (other == 1) * gradients[other]
            )
        return gradient

    possible = [
        sum((projected(0, a), projected(1, b), projected(2, c)), torch.zeros(3))
        for a in ((1, 2), (2, 1))
        for b in ((0, 2), (2, 0))
        for c in ((0, 1), (1, 0))
    ]
    for each in found:
        assert any(torch.allclose(torch.tensor(each), other, atol=1e-5) for other in possible)


@pytest.mark.parametrize("point", [[0.0, 1.0], [0.5, 0.2], [-0.3, 0.1], [4.0, -2.0]])
def test_cagrad_takes_the_step_of_the_dual_problem_on_two_quadratics(point) -> None:
    gradients = quadratics(point).double()  # shares of the mean loss: those of algorithm 1 are twice as long
    first, second = 2 * gradients
    mean, c = (first + second) / 2, 0.4

    def weighted(w: float) -> torch.Tensor:
        return w * first + (1 - w) * second

    def dual(w: float) -> float:
        return float(weighted(w) @ mean + c * mean.norm() * weighted(w).norm())

    best = minimize_scalar(dual, bounds=(0, 1), method="bounded", options={"xatol": 1e-9}).x
    expected = mean + c * mean.norm() * weighted(best) / weighted(best).norm()
    found = surgeon(Cagrad).combine(gradients, stream())
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)
    assert (found - mean).norm() <= c * mean.norm() * (1 + 1e-6)
    assert min(found @ first, found @ second) >= min(mean @ first, mean @ second) - 1e-6


@pytest.mark.parametrize("seed", range(20))
def test_cagrads_worst_group_gains_about_as_much_as_an_optimiser_finds(seed: int) -> None:
    """Of three groups whose shares of the mean loss are as uneven as those of a long tail's batches."""
    random, c = np.random.default_rng(seed), 0.4
    shares = random.normal(size=(3, 5)) * np.array([[0.75], [0.19], [0.06]]) * random.lognormal(size=(3, 1))
    tasks = 3 * shares  # whose mean is the gradient of the mean loss
    mean = tasks.mean(0)
    radius = c * np.linalg.norm(mean)

    def dual(w: np.ndarray) -> float:
        return float(w @ tasks @ mean + radius * np.linalg.norm(w @ tasks))

    simplex = {"bounds": [(0, 1)] * 3, "constraints": {"type": "eq", "fun": lambda w: w.sum() - 1}}
    starts = [np.full(3, 1 / 3), *(0.1 + 0.7 * np.eye(3))]
    best = min((minimize(dual, start, method="SLSQP", **simplex) for start in starts), key=lambda found: found.fun)
    step = surgeon(Cagrad).combine(torch.from_numpy(shares), stream()).numpy()
    assert np.linalg.norm(step - mean) <= radius * (1 + 1e-6)
    # by duality the worst group's gain is at most the smallest value of the dual
    assert (tasks @ step).min() >= best.fun - 0.003 * (mean @ mean)


@pytest.mark.parametrize("kind", [Pcgrad, Cagrad])
def test_groups_without_samples_take_no_part(kind) -> None:
    gradients = quadratics([0.5, 0.2])
    beside_nothing = torch.cat([gradients, torch.zeros(1, 2)])
    method = surgeon(kind)
    torch.testing.assert_close(method.combine(beside_nothing, stream()), method.combine(gradients, stream()))
    assert torch.equal(method.combine(torch.zeros(3, 2), stream()), torch.zeros(2))


def test_without_conflict_training_is_plain() -> None:
    orthogonal = torch.tensor([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.1]])
    assert torch.equal(surgeon(Pcgrad).combine(orthogonal, stream()), orthogonal.sum(0))
    conflicting = quadratics([0.5, 0.2])
    torch.testing.assert_close(surgeon(Cagrad, radius=0).combine(conflicting, stream()), conflicting.sum(0))


def test_conflicts_and_the_length_of_steps_are_told() -> None:
    method = surgeon(Pcgrad)
    one = torch.cat([quadratics([0.5, 0.2]), torch.zeros(1, 2)])
    other = torch.eye(3)
    lengths = sum(float(method.combine(each, stream()).norm() / each.sum(0).norm()) for each in (one, other))
    told = method.diagnostics()
    first, second, third = method.groups[:3]
    assert told["relative_length"] == pytest.approx(lengths / 2)
    assert told["conflicts"] == {f"{second}, {first}": 0.5, f"{third}, {first}": 0.0, f"{third}, {second}": 0.0}
    assert method.diagnostics()["conflicts"] == {}


def gradients_of(backbone: Any, method: Any, parts: int, batch: Batch) -> dict[str, torch.Tensor]:
    """A step as the training loop makes it."""
    named = method.parameters()
    for parameter in named.values():
        parameter.grad = None
    placement = Placement(backbone, list(named.values()), set(), ALONE)
    group_loss = GroupLoss(("all",), torch.zeros(10, dtype=torch.int64).numpy(), torch.device("cpu"))
    loss = backward(batch.split(parts), backbone, method, group_loss, "float32", placement, lambda part: None)
    found = {name: parameter.grad.clone() for name, parameter in named.items() if parameter.grad is not None}
    return {"loss": loss, **found}


def moved(kind: type[Any], **settings: Any) -> tuple[Any, Any, Batch]:
    backbone, method = attach(kind, **settings)
    with torch.no_grad():
        for parameter in method.parameters().values():
            parameter += 0.05 * torch.randn(parameter.shape, generator=stream())
    weights = torch.linspace(0.5, 2, 6)
    return backbone, method, replace(sample(backbone), weights=weights)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("kind", [Lora, Grasp, MixtureOfExperts])
def test_the_groups_gradients_add_up_to_that_of_the_mean_loss(kind, parts, monkeypatch) -> None:
    """Sample weights, an auxiliary loss, and parameters that no sample reaches included."""
    backbone, method, batch = moved(kind)
    expected = gradients_of(backbone, method, parts, batch)
    seen = []

    def added(gradients: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        seen.append(gradients)
        return gradients.sum(0)

    groups = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
    monkeypatch.setattr(method, "surgery", lambda: Surgery(groups, added))
    found = gradients_of(backbone, method, parts, batch)
    assert [each.shape[0] for each in seen] == [3]
    assert all(row.any() for row in seen[0])
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, msg=name)


@pytest.mark.parametrize("kind", [Pcgrad, Cagrad])
def test_parts_and_checkpointing_leave_the_gradient_as_it_is(kind) -> None:
    backbone, method, batch = moved(kind, on="lora")
    whole = gradients_of(backbone, method, 1, batch)
    plain = gradients_of(*moved(Lora)[:2], 1, batch)
    assert not all(torch.allclose(whole[name], plain[name]) for name in plain)
    in_parts = gradients_of(backbone, method, 2, batch)
    backbone.enable_gradient_checkpointing()
    backbone.transformer.train()
    recomputed = gradients_of(backbone, method, 1, batch)
    for name, gradient in whole.items():
        torch.testing.assert_close(in_parts[name], gradient, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-4, atol=1e-6)


def test_a_step_has_one_surgery() -> None:
    with pytest.raises(ValidationError, match="a step has one gradient surgery"):
        Pcgrad.Config(on="cagrad")
    assert attach(Pcgrad, on="oc")[1].surgery() is not None


def test_shards_are_refused(tmp_path) -> None:
    asked = plan(method="pcgrad", task="digits-lt", budget="smoke", method_settings=["on=lora"])
    options = Options(tmp_path / "results", tmp_path / "work", "cpu", shard=True)
    with pytest.raises(UserError, match="pcgrad needs the gradients of all weights in every process"):
        _ = Pipeline(asked, options, torch.device("cpu"), runs.Listener(), ALONE).trained
