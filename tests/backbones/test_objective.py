"""Objectives beside diffusers' own schedulers, and against the one distribution whose best prediction is known."""

from __future__ import annotations

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
)

from grasp_bench.contracts.objective import TIMESTEPS, FlowMatching, Objective, VariancePreserving
from grasp_bench.errors import UserError

SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
PREDICTIONS = ("epsilon", "v_prediction")
EACH_SCHEDULE = pytest.mark.parametrize("schedule", SCHEDULES)
EACH_PREDICTION = pytest.mark.parametrize("prediction", PREDICTIONS)
STEPS = torch.tensor([0, 1, 250, 500, 900, 998])  # of the schedule


def options(schedule: str = "linear", prediction: str = "epsilon", **others: object) -> dict[str, object]:
    betas = {"beta_start": 0.00085, "beta_end": 0.012} if schedule == "scaled_linear" else {}
    return {"beta_schedule": schedule, "prediction_type": prediction, **betas, **others}


def latents_and_noise(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    data, noise = torch.randn(2, count, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return data, noise


# Diffusion


@EACH_SCHEDULE
@EACH_PREDICTION
def test_noising_and_targets_are_those_of_ddpm(schedule: str, prediction: str) -> None:
    scheduler = DDPMScheduler(**options(schedule, prediction))
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    objective = VariancePreserving.of(scheduler)
    latents, noise = latents_and_noise(len(STEPS))
    timesteps = objective.shares[STEPS]
    torch.testing.assert_close(
        objective.add_noise(latents, noise, timesteps), scheduler.add_noise(latents, noise, STEPS)
    )
    expected = noise if prediction == "epsilon" else scheduler.get_velocity(latents, noise, STEPS)
    torch.testing.assert_close(objective.target(latents, noise, timesteps), expected)


@EACH_SCHEDULE
@EACH_PREDICTION
@pytest.mark.parametrize("kind", [DDPMScheduler, DDIMScheduler, DPMSolverMultistepScheduler])
def test_a_prediction_implies_the_data_that_the_scheduler_says(schedule: str, prediction: str, kind: type) -> None:
    clip = {} if kind is DPMSolverMultistepScheduler else {"clip_sample": False}
    scheduler = kind(**options(schedule, prediction, **clip))
    scheduler.set_timesteps(20)
    objective = VariancePreserving.of(scheduler)
    noisy, predicted = latents_and_noise(1)
    for step in (scheduler.timesteps[2], scheduler.timesteps[10], scheduler.timesteps[-1]):
        clean = objective.clean(noisy, predicted, objective.shares[step][None])
        if kind is DPMSolverMultistepScheduler:
            scheduler._step_index = scheduler.index_for_timestep(step)
            expected = scheduler.convert_model_output(predicted, sample=noisy)
        else:
            expected = scheduler.step(predicted, step, noisy).pred_original_sample
        torch.testing.assert_close(clean, expected, rtol=1e-4, atol=1e-3 * float(clean.abs().max()))


@EACH_SCHEDULE
@EACH_PREDICTION
def test_the_exact_prediction_gives_the_data_back_at_every_level(schedule: str, prediction: str) -> None:
    objective = VariancePreserving.of(DDPMScheduler(**options(schedule, prediction)))
    latents, noise = (tensor.expand(TIMESTEPS, -1, -1, -1) for tensor in latents_and_noise(1))
    timesteps = objective.shares
    noisy = objective.add_noise(latents, noise, timesteps)
    found = objective.clean(noisy, objective.target(latents, noise, timesteps), timesteps)
    torch.testing.assert_close(found, latents, rtol=1e-6, atol=1e-6)


@EACH_SCHEDULE
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_every_step_of_the_schedule_has_a_time_of_its_own(schedule: str, precision: torch.dtype) -> None:
    objective = VariancePreserving.of(DDPMScheduler(**options(schedule)))
    clock = objective.clock(objective.shares.to(precision))
    assert clock.dtype == torch.int64
    assert torch.equal(clock, torch.arange(TIMESTEPS))


def test_a_time_between_two_steps_is_the_nearer_ones() -> None:
    objective = VariancePreserving.of(DDPMScheduler(**options()))
    lower, upper = objective.shares[[400, 401]]
    between = torch.stack([0.6 * lower + 0.4 * upper, 0.4 * lower + 0.6 * upper])
    assert objective.clock(between).tolist() == [400, 401]
    assert objective.clock(torch.tensor([0.0, 1.0])).tolist() == [0, TIMESTEPS - 1]


def test_training_times_are_the_schedules_steps_drawn_evenly() -> None:
    objective = VariancePreserving.of(DDPMScheduler(**options()))
    drawn = objective.timesteps(100_000, torch.Generator().manual_seed(0))
    assert drawn.dtype == torch.float32
    counts = objective.clock(drawn).bincount(minlength=TIMESTEPS)
    assert len(counts) == TIMESTEPS
    assert counts.min() > 50  # 100 expected, with a standard deviation of 10
    assert counts.max() < 150
    torch.manual_seed(9)
    assert torch.equal(drawn, objective.timesteps(100_000, torch.Generator().manual_seed(0)))


@EACH_SCHEDULE
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("kind", [DDIMScheduler, DPMSolverMultistepScheduler])
def test_sampling_levels_descend_to_zero_and_are_the_schedulers_steps(schedule: str, spacing: str, kind: type) -> None:
    scheduler = kind(**options(schedule, timestep_spacing=spacing))
    scheduler.set_timesteps(10)
    objective = VariancePreserving.of(scheduler)
    levels = objective.levels(scheduler)
    assert levels.shape == (11,)
    assert (levels.diff() < 0).all()
    assert levels[0] > 0.85  # of ten steps, "leading" starts at the 900th of 1000
    assert levels[-1] == 0
    for precision in (torch.float32, torch.float64):
        assert torch.equal(objective.clock(levels[:-1].to(precision)), scheduler.timesteps)


def test_levels_are_the_sigmas_that_dpm_solver_steps_through() -> None:
    """Its sigma is s / a, so that t = sigma / (1 + sigma)."""
    scheduler = DPMSolverMultistepScheduler(**options())
    scheduler.set_timesteps(12)
    sigmas = scheduler.sigmas.double()
    levels = VariancePreserving.of(scheduler).levels(scheduler)
    torch.testing.assert_close(levels, sigmas / (1 + sigmas), rtol=1e-5, atol=1e-6)


def test_a_scheduler_of_another_prediction_is_refused() -> None:
    with pytest.raises(UserError, match="prediction_type is 'sample', expected 'epsilon' or 'v_prediction'"):
        VariancePreserving.of(DDPMScheduler(prediction_type="sample"))


# Flow matching


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_matching_is_that_of_the_euler_scheduler(shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(10)
    objective = FlowMatching()
    levels = objective.levels(scheduler)
    assert levels.shape == (11,)
    assert (levels.diff() < 0).all()
    assert levels[0] == 1
    assert levels[-1] == 0
    torch.testing.assert_close(objective.clock(levels[:-1]), scheduler.timesteps)
    latents, noise = (tensor.float() for tensor in latents_and_noise(10))
    noisy = objective.add_noise(latents, noise, levels[:-1])
    torch.testing.assert_close(noisy, scheduler.scale_noise(latents, scheduler.timesteps, noise))
    target = objective.target(latents, noise, levels[:-1])
    torch.testing.assert_close(objective.clean(noisy, target, levels[:-1]), latents)


# Both


def best_prediction(objective: Objective, x: torch.Tensor, t: torch.Tensor, mean: float, std: float) -> torch.Tensor:
    """What the best network says at ``x`` (B,) of data that are Gaussian, by the formulas for Gaussian posteriors."""
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    a, s = objective.add_noise(one, zero, t), objective.add_noise(zero, one, t)
    surprise = (x - a * mean) / (a**2 * std**2 + s**2)
    return objective.target(mean + a * std**2 * surprise, s * surprise, t)


@pytest.mark.parametrize(
    ("scheduler", "steps"),
    [
        *((DDIMScheduler(**options("linear", each, clip_sample=False)), 250) for each in PREDICTIONS),
        *((DPMSolverMultistepScheduler(**options("linear", each)), 50) for each in PREDICTIONS),
        (FlowMatchEulerDiscreteScheduler(), 250),
        (FlowMatchEulerDiscreteScheduler(shift=3.0), 250),
    ],
    ids=["ddim-noise", "ddim-velocity", "dpm-solver-noise", "dpm-solver-velocity", "euler", "euler-shifted"],
)
def test_sampling_with_the_best_prediction_reaches_the_data(scheduler: object, steps: int) -> None:
    """Sampling maps noise e to mean + std e: what becomes of 0 and 1 shows both."""
    mean, std = 0.7, 0.4
    is_flow = isinstance(scheduler, FlowMatchEulerDiscreteScheduler)
    objective = FlowMatching() if is_flow else VariancePreserving.of(scheduler)
    scheduler.set_timesteps(steps)
    x = torch.tensor([0.0, 1.0], dtype=torch.float64)
    for level, timestep in zip(objective.levels(scheduler), scheduler.timesteps, strict=False):
        predicted = best_prediction(objective, x, level.expand(2), mean, std)
        x = scheduler.step(predicted, timestep, x, return_dict=False)[0].double()
    assert x[0].item() == pytest.approx(mean, abs=0.02)
    assert (x[1] - x[0]).item() == pytest.approx(std, abs=0.02)
