"""Guidances with a norm, a distance or a threshold on latents of other sizes: the figures of their docstrings."""

from __future__ import annotations

import pytest
import torch

from grasp_bench.contracts.backbone import PromptEmbeddings
from grasp_bench.contracts.guidance import Model, SamplingStep
from grasp_bench.contracts.method import Condition
from grasp_bench.contracts.objective import FlowMatching
from grasp_bench.guidances.apg import AdaptiveProjectedGuidance, ProjectedSettings
from grasp_bench.guidances.gfcg import confusion
from grasp_bench.guidances.minority import MinorityGuidance, MinoritySettings

FLOW = FlowMatching()
SMALL, LARGE, LARGER = (1, 8, 8), (16, 64, 64), (16, 128, 128)


def spectrum(side: int) -> torch.Tensor:
    """Power of each frequency of images of unit variance, which falls with its square: (side, side)."""
    frequency = torch.fft.fftfreq(side, dtype=torch.float64) * side
    squared = frequency[:, None] ** 2 + frequency**2
    power = torch.where(squared > 0, 1 / squared.clamp(min=1), 0.0)
    return power / power.mean()


def images(count: int, shape: tuple[int, ...]) -> torch.Tensor:
    noise = torch.randn(count, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.fft.ifft2(spectrum(shape[-1]).sqrt() * torch.fft.fft2(noise)).real


def estimate(noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The perfect network's estimate of images with that spectrum."""
    t = t.reshape(-1, 1, 1, 1)
    power = spectrum(noisy.shape[-1])
    gain = (1 - t) * power / ((1 - t) ** 2 * power + t**2)
    return torch.fft.ifft2(gain * torch.fft.fft2(noisy)).real


def network(noisy: torch.Tensor, condition: Condition) -> torch.Tensor:
    return FLOW.prediction(noisy, estimate(noisy, condition.timesteps), condition.timesteps)


def model(count: int) -> Model:
    labels = torch.arange(count)
    prompts = PromptEmbeddings(labels[:, None].double())
    return Model(network, FLOW, labels, prompts, prompts)


def step(count: int, t: float) -> SamplingStep:
    times = torch.full((count,), t, dtype=torch.float64)
    streams = [torch.Generator().manual_seed(seed) for seed in range(count)]
    return SamplingStep(0, 20, times, times - 0.05, {}, streams)


@pytest.mark.parametrize(("shape", "norm"), [(SMALL, 0.46875), (LARGE, 15.0), (LARGER, 30.0)])
def test_apg_bounds_the_root_mean_square_alike_at_every_size(shape: tuple[int, ...], norm: float) -> None:
    """Away from an unconditional prediction that is far off, what is added has the whole norm, and c is orthogonal."""
    where = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def parted(noisy: torch.Tensor, condition: Condition) -> torch.Tensor:
        far = 5 * condition.dropped.double().reshape(-1, 1, 1, 1) * torch.ones_like(noisy)
        return FLOW.prediction(noisy, far, condition.timesteps)

    guidance = AdaptiveProjectedGuidance(ProjectedSettings(guidance_scale=2))
    guided = guidance.predict(model(2).on(parted), where, step(2, 0.5))
    added = FLOW.clean(where, guided, step(2, 0.5).timesteps).flatten(1)
    torch.testing.assert_close(added.norm(dim=1), torch.full((2,), norm, dtype=torch.float64))
    assert added.square().mean().sqrt().item() == pytest.approx(0.0586, abs=1e-4)


@pytest.mark.parametrize(
    ("shape", "count", "t", "share"),
    [(SMALL, 512, 0.756, 0.19), (SMALL, 512, 0.96, 0.005), (LARGE, 16, 0.756, 0.46), (LARGE, 16, 0.96, 0.056)],
)
def test_how_much_of_an_estimate_is_found_again_after_noising_it(
    shape: tuple[int, ...], count: int, t: float, share: float
) -> None:
    clean = images(count, shape)
    guidance = MinorityGuidance(MinoritySettings(renoise_timestep=t))
    again = guidance._estimate_again(model(count), clean, step(count, 0.5))
    assert (again * clean).mean().item() == pytest.approx(share, rel=0.1, abs=2e-3)


def test_noise_of_the_published_commands_at_64_pixels_is_the_default() -> None:
    """Nichol & Dhariwal 2021, arXiv 2102.09672, equation 17, at 0.8 T."""
    import math

    alpha = (math.cos((0.8 + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)) ** 2
    signal, noise = math.sqrt(alpha), math.sqrt(1 - alpha)
    assert MinoritySettings().renoise_timestep == pytest.approx(noise / (signal + noise), abs=1e-3)


@pytest.mark.parametrize(("shape", "size"), [(SMALL, 0.39), (LARGE, 0.23)])
def test_a_direction_whose_largest_entry_is_1_is_shorter_per_element_the_more_there_are(
    shape: tuple[int, ...], size: float
) -> None:
    """At little noise, where the gradient is that of white noise's own difference from its second estimate."""
    count = 4 if shape == LARGE else 256
    noisy = torch.randn(count, *shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def white(noisy: torch.Tensor, condition: Condition) -> torch.Tensor:
        t = condition.timesteps.reshape(-1, 1, 1, 1)
        return FLOW.prediction(noisy, (1 - t) / ((1 - t) ** 2 + t**2) * noisy, condition.timesteps)

    _, direction = MinorityGuidance(MinoritySettings())._ascent(model(count).on(white), noisy, step(count, 0.3))
    assert direction.abs().amax().item() == pytest.approx(1)
    assert direction.square().flatten(1).mean(1).sqrt().mean().item() == pytest.approx(size, abs=0.01)


@pytest.mark.parametrize(("shape", "share"), [(SMALL, 0.13), (LARGE, 0.40)])
def test_an_estimate_at_the_same_level_is_sharper_the_larger_the_image(shape: tuple[int, ...], share: float) -> None:
    count = 4 if shape == LARGE else 512
    clean, t = images(count, shape), torch.full((count,), 0.8, dtype=torch.float64)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert estimate(FLOW.add_noise(clean, noise, t), t).square().mean().item() == pytest.approx(share, rel=0.1)


def test_a_classifier_of_more_elements_is_surer_and_gfcg_then_adds_nothing() -> None:
    excess = {}
    for shape in (SMALL, LARGE):
        means = torch.tensor([-0.2, 0.2], dtype=torch.float64)
        labels = torch.arange(2).repeat(8 if shape == LARGE else 2000)
        clean = torch.randn(len(labels), *shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
        clean = clean.flatten(1) + means[labels][:, None]
        logits = -torch.stack([(clean - mean).square().sum(1) for mean in means], 1) / 2
        _, scale = confusion(logits.softmax(1), labels, 3.0)
        excess[shape] = ((scale - 1) / 2).mean().item()
    assert excess[SMALL] == pytest.approx(0.08, abs=0.01)
    assert excess[LARGE] < 1e-6
