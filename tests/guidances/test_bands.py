"""Frequency-aware guidance: means that differ in one band only are extrapolated by that band's scale."""

import pytest
import torch
from diffusers.guiders import frequency_decoupled_guidance as theirs
from gaussian_world import MEANS, NOISE, NULL_MEAN, OBJECTIVES, World, assert_samples_are_independent, exact, step_at

from grasp_bench.guidances.bands import BandSettings, FrequencyAwareGuidance, low_band
from grasp_bench.guidances.cfg import CfgSettings, ClassifierFreeGuidance


def guidance(low: float, high: float) -> FrequencyAwareGuidance:
    return FrequencyAwareGuidance(BandSettings(low_scale=low, high_scale=high))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_band_of_the_mean_is_extrapolated_by_its_own_scale(name: str) -> None:
    world, step = World(OBJECTIVES[name]), step_at(OBJECTIVES[name])
    got = guidance(2, 5).predict(world.model(), NOISE, step)
    low = low_band(MEANS - NULL_MEAN)
    mean = NULL_MEAN + 2 * low + 5 * (MEANS - NULL_MEAN - low)
    torch.testing.assert_close(got, exact(world.objective, NOISE, step.timesteps, mean))
    assert world.evaluations == {"c": 5, "u": 5}


def test_a_constant_is_low_and_a_checkerboard_is_high() -> None:
    constant = torch.full((1, 2, 6, 6), 3.0)
    assert torch.equal(low_band(constant), constant)
    board = torch.arange(6)[:, None] + torch.arange(6)
    assert torch.equal(low_band((-1.0) ** board.expand(1, 2, 6, 6)), torch.zeros(1, 2, 6, 6))


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8)])
def test_latents_of_any_size_keep_it(size: tuple[int, int]) -> None:
    assert low_band(torch.ones(2, 3, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_equal_scales_are_cfg(scale: float) -> None:
    ours, theirs = World(OBJECTIVES["flow"]), World(OBJECTIVES["flow"])
    step = step_at(ours.objective)
    expected = ClassifierFreeGuidance(CfgSettings(guidance_scale=scale)).predict(theirs.model(), NOISE, step)
    assert torch.equal(guidance(scale, scale).predict(ours.model(), NOISE, step), expected)
    assert ours.evaluations == theirs.evaluations


@pytest.mark.parametrize(("low", "high"), [(2.0, 5.0), (5.0, 2.0), (3.0, 3.0), (0.0, 4.0)])
def test_on_our_bands_diffusers_frequency_decoupled_guidance_agrees(
    low: float, high: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kornia, which makes its own bands, need not be there: a pyramid of our two bands is put in their place.

    Not at scale 1 in a single band, where diffusers takes the conditional prediction's band of the level before.
    """

    def pyramid(prediction: torch.Tensor, levels: int) -> list[torch.Tensor]:
        assert levels == 2
        return [prediction - low_band(prediction), low_band(prediction)]

    monkeypatch.setattr(theirs, "_CAN_USE_KORNIA", True)
    monkeypatch.setattr(theirs, "build_laplacian_pyramid_func", pyramid)
    monkeypatch.setattr(theirs, "upsample_and_blur_func", lambda band: band)
    guider = theirs.FrequencyDecoupledGuidance([high, low])  # from the highest frequencies to the lowest
    model, step = World(OBJECTIVES["flow"]).model(), step_at(OBJECTIVES["flow"])
    conditional, unconditional = model.both(NOISE, step.timesteps)
    expected = guider.forward(conditional, unconditional).pred
    torch.testing.assert_close(guidance(low, high).predict(model, NOISE, step), expected)


def test_samples_are_independent() -> None:
    assert_samples_are_independent(guidance(2, 4), OBJECTIVES["noise"])
