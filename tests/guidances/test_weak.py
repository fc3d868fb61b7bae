"""Guidance by a weaker network, which has the data's spread wrong."""

from types import SimpleNamespace

import pytest
import torch
from diffusers.guiders import AutoGuidance as DiffusersGuidance
from gaussian_world import (
    MEANS,
    NOISE,
    OBJECTIVES,
    STD,
    World,
    assert_samples_are_independent,
    exact,
    sample,
    step_at,
)

from grasp_bench.guidances.weak import (
    AdapterOffGuidance,
    Autoguidance,
    AutoguidanceSettings,
    WeakNetworkGuidance,
    WeakSettings,
)


def guidance(weak: World, scale: float) -> WeakNetworkGuidance[WeakSettings]:
    found = AdapterOffGuidance(WeakSettings(guidance_scale=scale))
    found.weak = weak.network
    return found


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_is_the_extrapolation_from_the_weaker_network_under_the_same_prompt(name: str) -> None:
    objective = OBJECTIVES[name]
    strong, weak, step = World(objective), World(objective, std=1.0), step_at(objective)
    got = guidance(weak, 2.5).predict(strong.model(), NOISE, step)
    bad, good = (exact(objective, NOISE, step.timesteps, MEANS, std) for std in (1.0, STD))
    theirs = DiffusersGuidance(2.5, auto_guidance_layers=[0], dropout=1.0)  # the rule is the same, not who is weak
    torch.testing.assert_close(got, theirs.forward(good, bad).pred)
    assert strong.evaluations == weak.evaluations == {"c": 5, "u": 0}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_away_from_a_network_that_spreads_too_much_samples_spread_less(name: str) -> None:
    objective = OBJECTIVES[name]
    spreads = []
    for scale in (0.0, 1.0, 2.0):
        end = sample(guidance(World(objective, std=1.0), scale), World(objective).model(), steps=60)[-1]
        spreads.append(((end - MEANS) / NOISE).abs().median().item())
    assert spreads[0] == pytest.approx(1.0, abs=0.1)
    assert spreads[1] == pytest.approx(STD, abs=0.1)
    assert spreads[2] < spreads[1] - 0.05


def test_a_network_that_is_no_weaker_changes_nothing() -> None:
    objective, step = OBJECTIVES["flow"], step_at(OBJECTIVES["flow"])
    got = guidance(World(objective), 7.0).predict(World(objective).model(), NOISE, step)
    assert torch.equal(got, exact(objective, NOISE, step.timesteps, MEANS))


@pytest.mark.parametrize(("scale", "strong_calls", "weak_calls"), [(1.0, 5, 0), (0.0, 0, 5)])
def test_one_network_is_enough_at_the_ends(scale: float, strong_calls: int, weak_calls: int) -> None:
    strong, weak = World(OBJECTIVES["flow"]), World(OBJECTIVES["flow"], std=1.0)
    step = step_at(strong.objective)
    got = guidance(weak, scale).predict(strong.model(), NOISE, step)
    expected = exact(strong.objective, NOISE, step.timesteps, MEANS, STD if scale else 1.0)
    assert torch.equal(got, expected)
    assert (strong.evaluations["c"], weak.evaluations["c"]) == (strong_calls, weak_calls)


def test_samples_are_independent() -> None:
    assert_samples_are_independent(guidance(World(OBJECTIVES["noise"], std=1.0), 2.0), OBJECTIVES["noise"])


@pytest.mark.parametrize(("share", "steps"), [(0.0625, 38), (1.0, 600), (0.0001, 1)])
def test_autoguidance_asks_for_weights_of_its_share_of_the_training(share: float, steps: int) -> None:
    asked: list[int] = []
    given: list[dict[str, torch.Tensor]] = []
    workshop = SimpleNamespace(
        spec=SimpleNamespace(budget=SimpleNamespace(steps=600)),
        trained=lambda steps: asked.append(steps) or {"a": torch.arange(3.0)},
        second=given.append,
    )
    Autoguidance(AutoguidanceSettings(weak_share=share)).prepare(workshop, None)
    assert asked == [steps]
    assert torch.equal(given[0]["a"], torch.arange(3.0))


@pytest.mark.parametrize(("scale", "calls"), [(1.0, []), (2.0, ["trained", "second"])])
def test_nothing_is_trained_or_loaded_for_a_scale_of_1(scale: float, calls: list[str]) -> None:
    made: list[str] = []
    workshop = SimpleNamespace(
        spec=SimpleNamespace(budget=SimpleNamespace(steps=600)),
        trained=lambda steps: made.append("trained"),
        second=lambda weights: made.append("second"),
    )
    Autoguidance(AutoguidanceSettings(guidance_scale=scale)).prepare(workshop, None)
    assert made == calls
