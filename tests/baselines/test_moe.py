"""Gates of tokens and of samples, and their auxiliary losses."""

from dataclasses import replace

import pytest
import torch
from helpers.attaching import BATCH, attach, forward, sample, size, train

from grasp_bench import seeds
from grasp_bench.adapters.mixture import GatedAdapters
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.baselines.grasp import Grasp
from grasp_bench.baselines.moe import MixtureOfExperts, MoeSettings, SampleMixture
from grasp_bench.errors import Skip
from grasp_bench.run.resolve import make_task

LAYERS = 7  # feed-forwards of tiny-sd3


def gates(backbone: TinySD3) -> list[GatedAdapters]:
    return [module for module in backbone.transformer.modules() if isinstance(module, GatedAdapters)]


def test_the_z_loss_enters_identities_only_where_it_is_on() -> None:
    assert "z_weight" not in MoeSettings().model_dump()
    assert MoeSettings(z_weight=0.001).model_dump()["z_weight"] == 0.001


def test_the_z_loss_is_that_of_the_logits_and_is_added_by_its_weight() -> None:
    losses = {}
    for weight in (0.0, 0.5):
        backbone, method = attach(MixtureOfExperts, z_weight=weight)
        for gate in gates(backbone):
            gate.router.data.zero_()  # logits of 0: logsumexp is log(4) for every token
        losses[weight] = method.auxiliary_loss(sample(backbone), forward(backbone, method)).item()
    expected = 0.5 * torch.tensor(4.0).log().square().item()
    assert losses[0.5] - losses[0.0] == pytest.approx(expected, rel=1e-5)


def test_z_loss_draws_logits_towards_zero() -> None:
    backbone, method = attach(MixtureOfExperts, balance_weight=0, z_weight=1)
    for gate in gates(backbone):
        gate.router.data.mul_(20)
    forward_then = forward(backbone, method)
    before = method.auxiliary_loss(sample(backbone), forward_then)
    before.backward()
    with torch.no_grad():
        for gate in gates(backbone):
            gate.router -= 0.1 * gate.router.grad
    after = method.auxiliary_loss(sample(backbone), forward(backbone, method))
    assert after < before


def test_usage_and_balance_leave_out_padding_of_prompts() -> None:
    """Of 12 tokens of tiny-sd3's prompts, a prompt of three words fills three, and the empty one none."""
    backbone, method = attach(MixtureOfExperts)
    batch = sample(backbone)
    prompts = backbone.encode_prompts(["a handwritten digit"] * (BATCH - 1) + [""])
    assert prompts.padding is not None
    assert prompts.padding.sum(1).tolist() == [9] * (BATCH - 1) + [12]
    condition = replace(batch.condition, prompts=prompts)
    with method.condition(condition):
        backbone.predict(batch.noisy, condition.timesteps, condition.prompts)
    counted = [usage.sum(1).tolist() for usage in method.log.usage]
    image, prompt = [2.0 * 16] * BATCH, [2.0 * 3] * (BATCH - 1) + [0.0]
    assert sorted(counted) == sorted([image] * 4 + [prompt] * 3)
    without = replace(prompts, padding=torch.zeros_like(prompts.padding))
    probability = torch.stack(method.log.probability)
    with method.condition(replace(condition, prompts=without)):
        backbone.predict(batch.noisy, condition.timesteps, without)
    assert not torch.allclose(torch.stack(method.log.probability), probability)


def test_a_gate_of_samples_sends_all_tokens_of_a_sample_to_the_same_experts() -> None:
    for top_k in (1, 2):
        backbone, method = attach(SampleMixture, top_k=top_k)
        forward(backbone, method)
        assert len(method.log.usage) == LAYERS
        for usage in method.log.usage:
            assert usage.shape == (BATCH, 4)
            assert set(usage.unique().tolist()) == {0, 1}
            assert usage.sum(1).tolist() == [top_k] * BATCH


@pytest.mark.parametrize("what", ["prompt", "timestep", "noise"])
def test_a_gate_of_samples_reads_prompt_and_timestep_and_not_the_image(what: str) -> None:
    backbone, method = attach(SampleMixture)
    batch = sample(backbone)
    changed = {
        "prompt": replace(batch.condition, prompts=backbone.encode_prompts(["a printed letter A"] * BATCH)),
        "timestep": replace(batch.condition, timesteps=1 - batch.condition.timesteps),
        "noise": batch.condition,
    }[what]
    balances = []
    for condition, noisy in ((batch.condition, batch.noisy), (changed, -batch.noisy)):
        with method.condition(condition):
            backbone.predict(noisy, condition.timesteps, condition.prompts)
        balances.append(torch.stack(method.log.probability))
    assert torch.equal(balances[0], balances[1]) == (what == "noise")


def test_a_gate_of_samples_without_features_or_with_another_batch_s_raises() -> None:
    backbone, method = attach(SampleMixture)
    batch = sample(backbone)
    few = batch.condition[slice(2)]
    with pytest.raises(RuntimeError, match="without their features"):
        backbone.predict(batch.noisy, batch.condition.timesteps, batch.condition.prompts)
    with method.condition(few), pytest.raises(RuntimeError, match="features of 2 samples, but the forward pass has 6"):
        backbone.predict(batch.noisy, batch.condition.timesteps, batch.condition.prompts)


def test_a_gate_of_samples_learns() -> None:
    backbone, method = attach(SampleMixture)
    before = [gate.router.detach().clone() for gate in gates(backbone)]
    train(backbone, method)
    assert not any(torch.equal(gate.router, old) for gate, old in zip(gates(backbone), before, strict=True))


def test_usage_of_samples_is_reported_by_group() -> None:
    backbone, method = attach(SampleMixture)
    train(backbone, method, steps=1)
    usage = method.diagnostics()["expert_usage"]
    assert list(usage) == ["head", "medium", "tail"]
    labels, groups = sample(backbone).condition.labels, method.group_of_class
    for index, shares in enumerate(usage.values()):
        assert sum(shares) == pytest.approx(float((groups[labels] == index).any()))
    tail = sum(log[groups[labels] == 2].sum(0) for log in method.log.usage)
    assert usage["tail"] == pytest.approx((tail / tail.sum()).tolist())


def test_the_gated_mixture_of_samples_is_as_large_as_grasp() -> None:
    assert size(attach(SampleMixture)[1]) == size(attach(Grasp)[1])


def test_a_transformer_of_unknown_prompts_is_skipped_with_a_reason() -> None:
    backbone, (_, task) = TinySD3.load(), make_task("digits-lt", [], None)
    method = SampleMixture(SampleMixture.Config())
    assert method.supports(backbone, task) is None
    backbone.prompt_width = lambda: None
    skip = method.supports(backbone, task)
    assert isinstance(skip, Skip)
    assert "does not say how wide" in skip.reason


def test_fresh_weights_of_the_token_gate_are_those_of_before() -> None:
    backbone, _ = attach(MixtureOfExperts)
    generator = seeds.generator("init", "MixtureOfExperts")
    first = gates(backbone)[0]
    assert torch.equal(first.router, torch.randn(64, 4, generator=generator) * 0.02)
    assert torch.equal(first.down, torch.randn(4, 64, 12, generator=generator) * 64**-0.5)
