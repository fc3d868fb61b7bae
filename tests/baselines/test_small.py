"""What the smallest baselines train, and what that does."""

from typing import Any

import pytest
import torch
from helpers.attaching import attach, forward, sample, size, train

from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.baselines.class_token import ClassToken
from grasp_bench.baselines.lora import Lora
from grasp_bench.baselines.small import BitFit, Ia3, LnTuning
from grasp_bench.contracts.method import Method

KINDS = [Ia3, BitFit, LnTuning, ClassToken]


@pytest.mark.parametrize("kind", KINDS)
def test_it_trains_less_than_a_third_of_lora_s_parameters(kind: type[Method[Any]]) -> None:
    assert 0 < size(attach(kind)[1]) < size(attach(Lora)[1]) / 3


def test_bitfit_trains_every_bias_and_nothing_else() -> None:
    backbone, method = attach(BitFit)
    before = {name: each.clone() for name, each in backbone.transformer.state_dict().items()}
    train(backbone, method)
    changed = {name for name, each in backbone.transformer.state_dict().items() if not torch.equal(each, before[name])}
    assert changed <= set(method.parameters()) == {name for name in before if name.endswith("bias")}
    assert changed
    method.detach()
    after = backbone.transformer.state_dict()
    assert all(torch.equal(after[name], each) for name, each in before.items())


def test_ln_tuning_trains_what_all_timesteps_share_of_scales_and_shifts() -> None:
    backbone, method = attach(LnTuning)
    width = backbone.transformer.inner_dim
    sizes = {name: each.numel() for name, each in method.parameters().items()}
    assert sizes["transformer_blocks.0.norm1.linear.bias"] == 6 * width
    assert sizes["norm_out.linear.bias"] == 2 * width
    assert {name.rpartition(".norm")[2].rpartition("linear.")[2] for name in sizes} <= {
        "bias",
        "_q.weight",
        "_k.weight",
    }


def test_ia3_multiplies_keys_values_and_inner_activations() -> None:
    backbone, method = attach(Ia3)
    layers = {name.partition(".ia3_l")[0] for name in method.parameters()}
    ends = {".".join(name.split(".")[2:]) for name in layers}
    keys_and_values = {"attn.to_k", "attn.to_v", "attn.add_k_proj", "attn.add_v_proj"}
    assert ends == {*keys_and_values, "ff.net.2", "ff_context.net.2"}
    inputs = torch.randn(2, 64, generator=torch.Generator().manual_seed(0))
    key = backbone.transformer.get_submodule("transformer_blocks.0.attn.to_k")
    last = backbone.transformer.get_submodule("transformer_blocks.0.ff.net.2")
    inner = torch.randn(2, last.base_layer.in_features, generator=torch.Generator().manual_seed(1))
    for layer in (key, last):
        (scale,) = [each for name, each in layer.named_parameters() if "ia3_l" in name]
        scale.data.fill_(3.0)
    torch.testing.assert_close(key(inputs), 3 * key.base_layer(inputs))
    torch.testing.assert_close(last(inner), last.base_layer(3 * inner))


def test_a_class_token_moves_the_prompts_of_its_class_alone() -> None:
    backbone, method = attach(ClassToken)
    batch, before = sample(backbone), forward(backbone, method)
    torch.testing.assert_close(before, forward(TinySD3.load(), None), rtol=0, atol=0)
    offset = torch.randn(backbone.transformer.class_offsets.shape[1], generator=torch.Generator().manual_seed(2))
    backbone.transformer.class_offsets.data[9] = offset
    after = forward(backbone, method)
    moved = (after != before).flatten(1).any(1)
    assert moved.tolist() == ((batch.condition.labels == 9) & ~batch.condition.dropped).tolist()
    prompts = batch.condition.prompts
    shifted = type(prompts)(**{**vars(prompts), "tokens": prompts.tokens + offset})
    method.detach()
    expected = backbone.predict(batch.noisy, batch.condition.timesteps, shifted)
    torch.testing.assert_close(after[moved], expected[moved], rtol=1e-5, atol=1e-6)


def test_a_class_token_says_so_where_classes_are_unknown() -> None:
    backbone, _ = attach(ClassToken)
    batch = sample(backbone)
    with pytest.raises(RuntimeError, match="enter its condition first"):
        backbone.predict(batch.noisy, batch.condition.timesteps, batch.condition.prompts)
