"""Experts of intervals of timesteps: where the intervals end, and whom each expert serves."""

from dataclasses import replace

import pytest
import torch
from diffusers.schedulers import DDPMScheduler
from helpers.attaching import attach, sample, size

from grasp_bench import seeds
from grasp_bench.adapters.residual import RoutedAdapter
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.baselines.experts_by_timestep import GraspTimestep, TimestepExperts, interval_cuts, interval_of
from grasp_bench.baselines.grasp import Grasp
from grasp_bench.contracts.method import Batch, Method, MethodSettings
from grasp_bench.contracts.objective import FlowMatching, Objective, VariancePreserving
from grasp_bench.contracts.scope import current_scope

OBJECTIVES = [FlowMatching(), VariancePreserving.of(DDPMScheduler())]


def served_by(method: Method[MethodSettings], batch: Batch) -> list[int]:
    """The expert of each sample."""
    with method.condition(batch.condition):
        route = current_scope()
    return [
        expert
        for position in route.inverse.tolist()
        for expert, start, stop in route.segments
        if start <= position < stop
    ]


def at(backbone: TinySD3, *timesteps: float) -> Batch:
    """The suite's samples (classes 0, 3, 9, 9, 5, 1; the second and the fifth without prompt) at these timesteps."""
    batch = sample(backbone)
    return replace(batch, condition=replace(batch.condition, timesteps=torch.tensor(timesteps)))


def test_cuts_of_flow_matching_are_quantiles_of_the_logit_normal() -> None:
    for intervals in (2, 3, 8):
        levels = torch.arange(1, intervals).double() / intervals
        exact = torch.sigmoid(torch.special.ndtri(levels))
        assert interval_cuts(FlowMatching(), intervals) == pytest.approx(exact.tolist(), abs=2e-3)


def test_cuts_of_a_schedule_are_evenly_many_of_its_steps_apart() -> None:
    objective = OBJECTIVES[1]
    steps = objective.clock(torch.tensor(interval_cuts(objective, 4)))
    assert steps.tolist() == pytest.approx([250, 500, 750], abs=3)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_training_draws_every_interval_equally_often(objective: Objective) -> None:
    cuts = interval_cuts(objective, 5)
    assert cuts == interval_cuts(objective, 5)
    drawn = objective.timesteps(50_000, seeds.generator("another stream"))
    assert interval_of(drawn, cuts).bincount() / len(drawn) == pytest.approx(torch.full((5,), 0.2), abs=0.01)


def test_a_cut_belongs_to_the_interval_it_begins_in_either_precision() -> None:
    cuts = interval_cuts(FlowMatching(), 3)
    for precision in (torch.float32, torch.float64):
        bounds = torch.tensor([0.0, *cuts, 1.0], dtype=precision)
        assert interval_of(bounds, cuts).tolist() == [0, 1, 2, 2]
        assert interval_of(bounds[1:] - 1e-6, cuts).tolist() == [0, 1, 2]


def test_the_timestep_alone_decides_between_timestep_experts() -> None:
    backbone, method = attach(TimestepExperts)
    assert served_by(method, at(backbone, 0.0, 0.1, 0.5, 1.0, 0.5, 0.99)) == [0, 0, 1, 2, 1, 2]


def test_cluster_and_timestep_decide_together_and_a_dropped_prompt_changes_neither() -> None:
    backbone, method = attach(GraspTimestep)
    early_and_late = served_by(method, at(backbone, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9))
    clusters = method.of_class[torch.tensor([0, 3, 9, 9, 5, 1])]
    assert early_and_late == (2 * clusters + torch.tensor([0, 0, 0, 1, 1, 1])).tolist()
    assert clusters[0] != clusters[2]


def test_only_the_expert_of_the_interval_is_trained() -> None:
    backbone, method = attach(TimestepExperts)
    batch = at(backbone, *[0.5] * 6)
    with method.condition(batch.condition):
        backbone.predict(batch.noisy, batch.condition.timesteps, batch.condition.prompts).square().mean().backward()
    trained = {name.rpartition(".")[2] for name, value in method.parameters().items() if value.grad is not None}
    assert trained == {"1"}


def test_equal_experts_are_one_adapter_at_every_timestep() -> None:
    backbone, method = attach(TimestepExperts)
    generator = torch.Generator().manual_seed(0)
    for module in backbone.transformer.modules():
        if isinstance(module, RoutedAdapter):
            module.up[0].data.normal_(generator=generator)
            for weights in (module.down, module.up):
                for other in list(weights)[1:]:
                    other.data.copy_(weights[0])
    outputs = []
    for cuts in (method.cuts, (0.0, 0.0), (2.0, 2.0)):  # as they are, all samples to the last, and all to the first
        method.cuts = cuts
        batch = sample(backbone)
        with method.condition(batch.condition):
            outputs.append(backbone.predict(batch.noisy, batch.condition.timesteps, batch.condition.prompts))
    torch.testing.assert_close(outputs[0], outputs[1])
    torch.testing.assert_close(outputs[0], outputs[2])


def test_both_are_as_large_as_grasp_and_say_what_they_are() -> None:
    expected = size(attach(Grasp)[1])
    for kind, clusters in ((TimestepExperts, ["all"]), (GraspTimestep, ["head", "medium", "tail"])):
        _, method = attach(kind)
        assert size(method) == expected
        artifacts = method.artifacts()
        assert artifacts["partition.json"]["clusters"] == clusters
        assert artifacts["intervals.json"]["cuts"] == list(interval_cuts(FlowMatching(), method.config.intervals))
