"""Sparse guidance on the embedded backbone, whose network decides what a prediction with fewer tokens is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from grasp_bench.adapters.tread import draw_kept, token_routing
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.contracts.guidance import Model, SamplingStep
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.contracts.settings import parse_settings
from grasp_bench.errors import Skip, UserError
from grasp_bench.guidances.cfg import CfgSettings, ClassifierFreeGuidance
from grasp_bench.guidances.sparse import SparseGuidance, SparseSettings
from grasp_bench.sampling import Network

TIMES = torch.tensor([0.9, 0.5, 0.2])
LATENTS = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
TOKENS = 16


@pytest.fixture(scope="module")
def backbone() -> TinySD3:
    return TinySD3.load()


def streams() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in (5, 6, 7)]


def step(generators: list[torch.Generator] | None = None) -> SamplingStep:
    return SamplingStep(1, 4, TIMES, TIMES / 2, {}, streams() if generators is None else generators)


def network_and_model(backbone: TinySD3) -> tuple[Network, Model]:
    network = Network(backbone, Method(MethodSettings()), torch.device("cpu"))
    prompts, null = (backbone.encode_prompts(each) for each in (["a printed letter A", "B", "nine"], [""] * 3))
    return network, Model(network, backbone.objective, torch.arange(3), prompts, null)


def guidance(backbone: TinySD3, **settings: Any) -> SparseGuidance:
    found = SparseGuidance(SparseSettings(**settings))
    found.prepare(SimpleNamespace(backbone=backbone), None)
    return found


@pytest.mark.parametrize("weak_prompt", ["own", "null"])
@torch.no_grad()
def test_it_is_the_extrapolation_from_fewer_tokens(backbone: TinySD3, weak_prompt: str) -> None:
    network, model = network_and_model(backbone)
    settings = {"strong_ratio": 0.25, "weak_ratio": 0.75, "weak_prompt": weak_prompt}
    got = guidance(backbone, guidance_scale=1.8, **settings).predict(model, LATENTS, step())
    assert network.evaluations == 6
    generators, branches = streams(), []
    for ratio, ask in ((0.25, model.conditional), (0.75, model.conditional)):
        ask = model.unconditional if ratio == 0.75 and weak_prompt == "null" else ask
        with token_routing(backbone.blocks()) as routing:
            routing.kept = torch.cat([draw_kept(1, TOKENS, ratio, each) for each in generators])
            branches.append(ask(LATENTS, TIMES))
    strong, weak = branches
    assert (strong - weak).abs().max() > 1e-2
    torch.testing.assert_close(got, 1.8 * strong - 0.8 * weak)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.9])
@torch.no_grad()
def test_with_all_tokens_it_is_the_conditional_prediction(backbone: TinySD3, scale: float) -> None:
    network, model = network_and_model(backbone)
    found = guidance(backbone, guidance_scale=scale, strong_ratio=0, weak_ratio=0)
    got = found.predict(model, LATENTS, step([]))
    assert network.evaluations == 3
    assert torch.equal(got, model.conditional(LATENTS, TIMES))


@torch.no_grad()
def test_with_all_tokens_and_the_null_condition_it_is_cfg(backbone: TinySD3) -> None:
    _, model = network_and_model(backbone)
    found = guidance(backbone, guidance_scale=2.5, strong_ratio=0, weak_ratio=0, weak_prompt="null")
    expected = ClassifierFreeGuidance(CfgSettings(guidance_scale=2.5)).predict(model, LATENTS, step())
    torch.testing.assert_close(found.predict(model, LATENTS, step([])), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("scale", "ratio"), [(1.0, 0.3), (0.0, 0.7)])
@torch.no_grad()
def test_one_prediction_alone_costs_one_evaluation(backbone: TinySD3, scale: float, ratio: float) -> None:
    network, model = network_and_model(backbone)
    got = guidance(backbone, guidance_scale=scale).predict(model, LATENTS, step())
    assert network.evaluations == 3
    with token_routing(backbone.blocks()) as routing:
        routing.kept = torch.cat([draw_kept(1, TOKENS, ratio, each) for each in streams()])
        assert torch.equal(got, model.conditional(LATENTS, TIMES))


@torch.no_grad()
def test_it_computes_less_than_two_predictions_with_all_tokens(backbone: TinySD3) -> None:
    _, model = network_and_model(backbone)
    counted = []
    for found in (guidance(backbone), ClassifierFreeGuidance(CfgSettings(guidance_scale=2.0))):
        with FlopCounterMode(display=False) as counter:
            found.predict(model, LATENTS, step())
        counted.append(counter.get_total_flops())
    assert counted[0] < 0.9 * counted[1]


@torch.no_grad()
def test_a_sample_draws_from_its_own_stream_and_anew_in_every_step(backbone: TinySD3) -> None:
    _, model = network_and_model(backbone)
    found, generators = guidance(backbone), streams()
    together = found.predict(model, LATENTS, step(generators))
    assert not torch.allclose(found.predict(model, LATENTS, step(generators)), together, atol=1e-3)
    for number, generator in enumerate(streams()):
        one = torch.tensor([number])
        alone = SamplingStep(1, 4, TIMES[one], TIMES[one] / 2, {}, [generator])
        got = found.predict(model.rows(one), LATENTS[one], alone)
        torch.testing.assert_close(got, together[one], rtol=1e-4, atol=1e-4)
    assert not any("forward" in vars(block) for block in backbone.transformer.transformer_blocks)


def test_it_asks_for_a_model_that_was_trained_with_tokens_left_out(backbone: TinySD3) -> None:
    dense, sparse = Method(MethodSettings()), Method(MethodSettings(tread=0.5))
    skip = SparseGuidance(SparseSettings()).supports(backbone, dense)
    assert isinstance(skip, Skip)
    assert "tread=0.5" in skip.reason
    assert "force=true" in skip.reason
    assert SparseGuidance(SparseSettings(force=True)).supports(backbone, dense) is None
    assert SparseGuidance(SparseSettings()).supports(backbone, sparse) is None


def test_a_weak_prediction_with_more_tokens_is_refused() -> None:
    with pytest.raises(UserError, match=r"weak_ratio=0\.2 is below strong_ratio=0\.3"):
        parse_settings(SparseSettings, ["weak_ratio=0.2"], "guidance sparse", {})
