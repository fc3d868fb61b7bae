"""Guidances against a Gaussian whose exact velocity is known, and the evaluations they spend."""

from dataclasses import dataclass, field

import pytest
import torch

from grasp_bench.contracts.backbone import PromptEmbeddings
from grasp_bench.contracts.guidance import Model, SamplingStep
from grasp_bench.contracts.method import Condition
from grasp_bench.contracts.objective import FlowMatching
from grasp_bench.contracts.settings import Settings
from grasp_bench.guidances.cfg import CfgSettings, ClassifierFreeGuidance, NoGuidance

SCALE = 0.5  # standard deviation of the data


def velocity(x: torch.Tensor, t: torch.Tensor, mean: float) -> torch.Tensor:
    """Exact for x_0 ~ N(mean, SCALE²) under x_t = (1 - t) x_0 + t e."""
    t = t[:, None]
    clean = mean + SCALE**2 * (1 - t) / ((1 - t) ** 2 * SCALE**2 + t**2) * (x - (1 - t) * mean)
    return (x - clean) / t


@dataclass
class Counter:
    calls: list[str] = field(default_factory=list)

    def model(self) -> Model:
        def network(x: torch.Tensor, condition: Condition) -> torch.Tensor:
            half = len(X)
            parts = zip(x.split(half), condition.timesteps.split(half), condition.dropped.split(half), strict=True)
            outputs = []
            for latents, timesteps, dropped in parts:
                self.calls.append("u" if dropped[0] else "c")
                outputs.append(velocity(latents, timesteps, -1.0 if dropped[0] else 2.0))
            return torch.cat(outputs)

        labels, prompts = torch.zeros(len(X), dtype=torch.long), PromptEmbeddings(torch.zeros(len(X), 1))
        return Model(network, FlowMatching(), labels, prompts, prompts)


X = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
T = torch.linspace(0.1, 1.0, 5, dtype=torch.float64)
STEP = SamplingStep(0, 2, T, T / 2, {}, [])


@pytest.mark.parametrize("scale", [0.5, 2.0, 7.5])
def test_cfg_of_gaussians_is_the_field_of_the_extrapolated_mean(scale: float) -> None:
    guidance = ClassifierFreeGuidance(CfgSettings(guidance_scale=scale))
    got = guidance.predict(Counter().model(), X, STEP)
    torch.testing.assert_close(got, velocity(X, T, -1.0 + scale * 3.0))


@pytest.mark.parametrize(("scale", "mean", "calls"), [(1.0, 2.0, ["c"]), (0.0, -1.0, ["u"]), (3.0, 8.0, ["c", "u"])])
def test_cfg_spends_one_evaluation_where_one_is_enough(scale: float, mean: float, calls: list[str]) -> None:
    counter = Counter()
    got = ClassifierFreeGuidance(CfgSettings(guidance_scale=scale)).predict(counter.model(), X, STEP)
    torch.testing.assert_close(got, velocity(X, T, mean))
    assert counter.calls == calls


def test_no_guidance_is_the_conditional_prediction() -> None:
    counter = Counter()
    assert torch.equal(NoGuidance(Settings()).predict(counter.model(), X, STEP), velocity(X, T, 2.0))
    assert counter.calls == ["c"]
