"""Perturbed-attention guidance on the transformers it serves, and diffusers' own perturbation."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DiTTransformer2DModel, FluxTransformer2DModel, SanaTransformer2DModel, SD3Transformer2DModel
from diffusers.guiders import PerturbedAttentionGuidance as DiffusersGuidance
from diffusers.models.attention_processor import PAGIdentitySelfAttnProcessor2_0, PAGJointAttnProcessor2_0

from grasp_bench.backbones.diffusers_model import image_attentions
from grasp_bench.backbones.flux import Flux
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.contracts.guidance import Model, SamplingStep
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.errors import Skip, UserError
from grasp_bench.guidances.cfg import CfgSettings, ClassifierFreeGuidance
from grasp_bench.guidances.pag import PerturbedAttentionGuidance, PerturbedSettings
from grasp_bench.guidances.perturbed import perturbed
from grasp_bench.sampling import Network

STEP = SamplingStep(1, 4, torch.tensor([0.9, 0.5, 0.2]), torch.tensor([0.8, 0.4, 0.1]), {}, [])
LATENTS = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def backbone() -> TinySD3:
    return TinySD3.load()


def dit() -> DiTTransformer2DModel:
    torch.manual_seed(0)
    sizes = {"num_attention_heads": 2, "attention_head_dim": 8, "sample_size": 4, "num_layers": 3}
    return DiTTransformer2DModel(in_channels=4, num_embeds_ada_norm=3, **sizes).eval()


def joint_with_normalised_queries() -> torch.nn.Module:
    """A joint attention and a self-attention as SD3.5's."""
    torch.manual_seed(0)
    return SD3Transformer2DModel(
        sample_size=4,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        pooled_projection_dim=16,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    ).eval()


def network_and_model(backbone: TinySD3) -> tuple[Network, Model]:
    network = Network(backbone, Method(MethodSettings()), torch.device("cpu"))
    words = ["a printed letter A", "a printed letter B", "nine"]
    prompts, null = (backbone.encode_prompts(each) for each in (words, [""] * 3))
    return network, Model(network, backbone.objective, torch.arange(3), prompts, null)


def guidance(backbone: Any, **settings: Any) -> PerturbedAttentionGuidance:
    found = PerturbedAttentionGuidance(PerturbedSettings(**settings))
    assert found.supports(backbone, Method(MethodSettings())) is None
    found.prepare(SimpleNamespace(backbone=backbone), None)
    return found


@pytest.mark.parametrize(("scale", "evaluations"), [(1.0, 6), (2.5, 9)])
@torch.no_grad()
def test_it_is_the_rule_of_diffusers(backbone: TinySD3, scale: float, evaluations: int) -> None:
    network, model = network_and_model(backbone)
    ours = guidance(backbone, guidance_scale=scale, pag_scale=1.5)
    got = ours.predict(model, LATENTS, STEP)
    assert network.evaluations == evaluations
    conditional, unconditional = model.both(LATENTS, STEP.timesteps)
    with perturbed(ours.layers):
        weak = model.conditional(LATENTS, STEP.timesteps)
    assert (weak - conditional).abs().max() > 1e-3
    theirs = DiffusersGuidance(
        scale, 1.5, 0.0, 1.0, perturbed_guidance_layers=[0], use_original_formulation=scale == 1, start=0.0, stop=1.0
    )
    if scale == 1:  # their original formulation starts from c, as ours does, and its scales are ours less one
        theirs.guidance_scale = 0.0
    theirs.set_state(1, 4, None)
    torch.testing.assert_close(got, theirs.forward(conditional, unconditional, weak).pred, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 2.5])
@torch.no_grad()
def test_a_scale_of_0_is_cfg(backbone: TinySD3, scale: float) -> None:
    network, model = network_and_model(backbone)
    got = guidance(backbone, guidance_scale=scale, pag_scale=0).predict(model, LATENTS, STEP)
    assert network.evaluations == (3 if scale == 1 else 6)
    cfg = ClassifierFreeGuidance(CfgSettings(guidance_scale=scale))
    assert torch.equal(got, cfg.predict(model, LATENTS, STEP))


@torch.no_grad()
def test_the_transformer_is_itself_again_even_after_an_error(backbone: TinySD3) -> None:
    _, model = network_and_model(backbone)
    before = model.conditional(LATENTS, STEP.timesteps)
    with pytest.raises(KeyError), perturbed(backbone.image_attentions().values()):
        raise KeyError
    assert torch.equal(model.conditional(LATENTS, STEP.timesteps), before)
    with perturbed([]):
        assert torch.equal(model.conditional(LATENTS, STEP.timesteps), before)


@torch.no_grad()
def test_samples_are_independent(backbone: TinySD3) -> None:
    _, model = network_and_model(backbone)
    found = guidance(backbone)
    together = found.predict(model, LATENTS, STEP)
    for number in range(3):
        one = torch.tensor([number])
        step = SamplingStep(1, 4, STEP.timesteps[one], STEP.next_timesteps[one], {}, [])
        alone = found.predict(model.rows(one), LATENTS[one], step)
        torch.testing.assert_close(alone, together[one], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_joint_attention_is_perturbed_as_in_diffusers_pipeline(backbone: TinySD3) -> None:
    layer = backbone.image_attentions()["transformer_blocks.1.attn"]
    image, prompt = torch.randn(2, 16, 64), torch.randn(2, 12, 64)
    with perturbed([layer]):
        got = layer(image, encoder_hidden_states=prompt)
    both = [torch.cat([each, each]) for each in (image, prompt)]
    expected = PAGJointAttnProcessor2_0()(layer, *both)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b[2:])
    plain = layer(image, encoder_hidden_states=prompt)
    assert not torch.allclose(got[0], plain[0])
    torch.testing.assert_close(got[1], plain[1])  # prompt tokens see what they saw


@torch.no_grad()
def test_an_image_token_sees_itself_and_the_prompt_alone() -> None:
    layers = image_attentions(joint_with_normalised_queries())
    assert list(layers) == [f"transformer_blocks.{name}" for name in ("0.attn", "0.attn2", "1.attn")]
    layer, image, prompt = layers["transformer_blocks.1.attn"], torch.randn(1, 4, 16), torch.randn(1, 3, 16)

    def first_token(image: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
        with perturbed([layer]):
            return layer(image, encoder_hidden_states=prompt)[0][:, 0]

    before = first_token(image, prompt)
    others = torch.cat([image[:, :1], torch.randn(1, 3, 16)], 1)
    torch.testing.assert_close(first_token(others, prompt), before)
    assert not torch.allclose(first_token(others.flip(1), prompt), before)
    assert not torch.allclose(first_token(image, torch.randn(1, 3, 16)), before)


@torch.no_grad()
def test_self_attention_is_perturbed_as_in_diffusers() -> None:
    layer, image = image_attentions(dit())["transformer_blocks.1.attn1"], torch.randn(2, 4, 16)
    with perturbed([layer]):
        got = layer(image)
    torch.testing.assert_close(got, PAGIdentitySelfAttnProcessor2_0()(layer, torch.cat([image, image]))[2:])
    assert not torch.allclose(got, layer(image))


@torch.no_grad()
def test_the_linear_attention_of_sana_and_no_attention_to_prompts() -> None:
    torch.manual_seed(0)
    sizes = {"num_attention_heads": 2, "attention_head_dim": 8, "num_cross_attention_heads": 2}
    sizes |= {"cross_attention_head_dim": 8, "cross_attention_dim": 16, "caption_channels": 16, "num_layers": 2}
    layers = image_attentions(SanaTransformer2DModel(in_channels=4, out_channels=4, sample_size=4, **sizes))
    assert list(layers) == ["transformer_blocks.0.attn1", "transformer_blocks.1.attn1"]
    layer, image = layers["transformer_blocks.0.attn1"].eval(), torch.randn(2, 4, 16)
    with perturbed([layer]):
        got = layer(image)
    torch.testing.assert_close(got, layer.to_out[0](layer.to_v(image)))


def test_every_attention_of_image_tokens_in_the_block_in_the_middle_is_perturbed() -> None:
    """As on SD3.5-medium: the first 13 of its 24 blocks have two, so that the middle one of all 37 is of block 9."""
    found = image_attentions(
        SD3Transformer2DModel(
            sample_size=4,
            in_channels=4,
            num_layers=24,
            attention_head_dim=8,
            num_attention_heads=1,
            joint_attention_dim=8,
            caption_projection_dim=8,
            pooled_projection_dim=8,
            dual_attention_layers=tuple(range(13)),
        )
    )
    assert len(found) == 37
    backbone = SimpleNamespace(image_attentions=lambda: found)
    names = {layer: name for name, layer in found.items()}
    chosen = [names[layer] for layer in guidance(backbone).layers]
    assert chosen == ["transformer_blocks.12.attn", "transformer_blocks.12.attn2"]
    asked = guidance(backbone, layers="transformer_blocks.1, transformer_blocks.10.attn2").layers
    expected = ["transformer_blocks.1.attn", "transformer_blocks.1.attn2", "transformer_blocks.10.attn2"]
    assert [names[layer] for layer in asked] == expected


def test_layers_are_named_exactly(backbone: TinySD3) -> None:
    layers = backbone.image_attentions()
    assert guidance(backbone).layers == [layers["transformer_blocks.2.attn"]]
    named = guidance(backbone, layers="transformer_blocks.1.attn, transformer_blocks.3.attn").layers
    assert named == [layers["transformer_blocks.1.attn"], layers["transformer_blocks.3.attn"]]
    assert guidance(backbone, layers="transformer_blocks.1").layers == [layers["transformer_blocks.1.attn"]]
    with pytest.raises(UserError, match=r"no attention layer 'transformer_blocks\.1\.at' .* Did you mean") as caught:
        guidance(backbone, layers="transformer_blocks.1.at")
    assert "transformer_blocks.0.attn, transformer_blocks.1.attn" in str(caught.value)


def test_a_transformer_of_other_attention_is_skipped() -> None:
    transformer = FluxTransformer2DModel(
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(2, 2, 4),
    )
    found = PerturbedAttentionGuidance(PerturbedSettings())
    backbone = Flux.__new__(Flux)
    backbone.transformer = transformer
    skip = found.supports(backbone, Method(MethodSettings()))
    assert isinstance(skip, Skip)
    assert "FluxTransformer2DModel" in skip.reason
