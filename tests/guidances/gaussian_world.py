"""Gaussian data, for which the perfect network is known under every objective, and a first-order sampler."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import torch
from diffusers.schedulers import DDPMScheduler

from grasp_bench.contracts.backbone import PromptEmbeddings
from grasp_bench.contracts.guidance import Guidance, Model, SamplingStep
from grasp_bench.contracts.method import Condition
from grasp_bench.contracts.objective import FlowMatching, Objective, VariancePreserving
from grasp_bench.contracts.settings import Settings

ALPHAS = DDPMScheduler().alphas_cumprod
OBJECTIVES: dict[str, Objective] = {
    "flow": FlowMatching(),
    "noise": VariancePreserving(ALPHAS),
    "velocity": VariancePreserving(ALPHAS, velocity=True),
}
SAMPLES, SHAPE = 5, (1, 4, 4)
STD = 0.5  # of the data around each class's mean


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


NOISE = draw(SAMPLES, *SHAPE, seed=0)
MEANS = draw(SAMPLES, *SHAPE, seed=1)
"""One for each sample, which is of a class of its own."""
NULL_MEAN = draw(*SHAPE, seed=2).expand(SAMPLES, *SHAPE)


def grid(objective: Objective, steps: int) -> torch.Tensor:
    """t at every step and at the end, descending: (steps + 1,)."""
    if isinstance(objective, FlowMatching):
        return torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    numbers = torch.linspace(999, 0, steps + 1).long()
    return objective.shares[numbers]


def amplitudes(objective: Objective, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of signal and noise, (B, ...)."""
    zeros, ones = torch.zeros_like(NOISE[: len(t)]), torch.ones_like(NOISE[: len(t)])
    return objective.add_noise(ones, zeros, t), objective.add_noise(zeros, ones, t)


def exact(objective: Objective, x: torch.Tensor, t: torch.Tensor, mean: torch.Tensor, std: float = STD) -> torch.Tensor:
    """The prediction of the perfect network for x_0 ~ N(mean, std²)."""
    a, s = amplitudes(objective, t)
    return objective.prediction(x, mean + std**2 * a / (a**2 * std**2 + s**2) * (x - a * mean), t)


def noise_estimate(objective: Objective, x: torch.Tensor, prediction: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    a, s = amplitudes(objective, t)
    return (x - a * objective.clean(x, prediction, t)) / s


@dataclass
class World:
    """A perfect network and a count of what goes through it."""

    objective: Objective
    std: float = STD
    evaluations: Counter[str] = field(default_factory=Counter)

    def network(self, x: torch.Tensor, condition: Condition) -> torch.Tensor:
        self.evaluations["u"] += int(condition.dropped.sum())
        self.evaluations["c"] += int((~condition.dropped).sum())
        dropped = condition.dropped.reshape(-1, 1, 1, 1)
        mean = NULL_MEAN[:1].where(dropped, MEANS[condition.labels])
        rows = zip(x, condition.timesteps, mean, strict=True)
        return torch.cat([exact(self.objective, a[None], t[None], m[None], self.std) for a, t, m in rows])

    def model(self, samples: slice = slice(None)) -> Model:
        labels = torch.arange(SAMPLES)[samples]
        prompts = PromptEmbeddings(labels[:, None].double())
        return Model(self.network, self.objective, labels, prompts, prompts)


COMPONENTS = 0.2 * MEANS[:2]
"""Means that are near enough for a noisy sample to be of either."""


@dataclass(frozen=True)
class Mixture:
    """Data of two components, N(``COMPONENTS[0]``, STD²) and N(``COMPONENTS[1]``, STD²), each as likely."""

    objective: Objective

    def network(self, x: torch.Tensor, condition: Condition) -> torch.Tensor:
        """The prediction of the perfect network that no prompt tells of the component."""
        t = condition.timesteps
        each = [self.objective.clean(x, self.of_component(x, t, component), t) for component in (0, 1)]
        share = self.posterior(x, t).reshape(-1, 2, 1, 1, 1)
        return self.objective.prediction(x, (share * torch.stack(each, 1)).sum(1), t)

    def of_component(self, x: torch.Tensor, t: torch.Tensor, component: int) -> torch.Tensor:
        """The prediction of the perfect network for one component."""
        return exact(self.objective, x, t, COMPONENTS[component])

    def posterior(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Bayes' probabilities of the components at noisy x: (B, 2)."""
        a, s = amplitudes(self.objective, t)
        logits = [-((x - a * mean).square() / (a**2 * STD**2 + s**2)).flatten(1).sum(1) / 2 for mean in COMPONENTS]
        return torch.stack(logits, 1).softmax(1)

    def model(self, component: int = 0) -> Model:
        """As many samples as of :class:`World`, all of the component as their class."""
        labels = torch.full((SAMPLES,), component)
        prompts = PromptEmbeddings(labels[:, None].double())
        return Model(self.network, self.objective, labels, prompts, prompts)


def step_at(objective: Objective, steps: int = 8) -> SamplingStep:
    """A step at which every sample is somewhere else on its way."""
    times = grid(objective, steps)
    return SamplingStep(0, steps, times[:SAMPLES], times[1 : SAMPLES + 1], {}, [])


def sample(
    guidance: Guidance[Settings], model: Model, steps: int = 6, samples: slice = slice(None)
) -> list[torch.Tensor]:
    """The latents on their way from noise, by first-order steps."""
    x, way, memory = NOISE[samples], [], {}
    times = grid(model.objective, steps)[:, None].expand(-1, len(x))
    for index in range(steps):
        step = SamplingStep(index, steps, times[index], times[index + 1], memory, [])
        prediction = guidance.predict(model, x, step)
        clean = model.objective.clean(x, prediction, step.timesteps)
        noise = noise_estimate(model.objective, x, prediction, step.timesteps)
        x = model.objective.add_noise(clean, noise, step.next_timesteps)
        way.append(x)
    return way


def assert_samples_are_independent(guidance: Guidance[Settings], objective: Objective) -> None:
    """A sample's way is the same alone as with others."""
    together = sample(guidance, World(objective).model())
    for number in range(SAMPLES):
        one = slice(number, number + 1)
        alone = sample(guidance, World(objective).model(one), samples=one)
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a, b[one])
