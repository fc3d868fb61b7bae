"""Every parameter of every family's transformer has a kind of layer."""

import diffusers
import pytest
import torch

from grasp_bench.backbones.sana import Sana
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.baselines.grasp import Grasp, GraspSettings
from grasp_bench.contracts.backbone import Backbone
from grasp_bench.diagnose.gradients import layer_kinds
from grasp_bench.tasks.digits_lt import DigitsLT, DigitsSettings

SIZES = {"num_attention_heads": 2, "attention_head_dim": 16}
FAMILIES = {
    "sd3": (
        Backbone,
        lambda: diffusers.SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            num_layers=2,
            joint_attention_dim=8,
            pooled_projection_dim=8,
            caption_projection_dim=32,
            dual_attention_layers=(0,),
            qk_norm="rms_norm",
            **SIZES,
        ),
    ),
    "flux": (
        Backbone,
        lambda: diffusers.FluxTransformer2DModel(
            in_channels=4,
            num_layers=1,
            num_single_layers=1,
            joint_attention_dim=8,
            pooled_projection_dim=8,
            guidance_embeds=True,
            axes_dims_rope=(4, 6, 6),
            **SIZES,
        ),
    ),
    "dit": (Backbone, lambda: diffusers.DiTTransformer2DModel(sample_size=8, num_layers=1, **SIZES)),
    "pixart": (
        Backbone,
        lambda: diffusers.PixArtTransformer2DModel(
            sample_size=8, num_layers=1, cross_attention_dim=32, caption_channels=8, **SIZES
        ),
    ),
    "sana": (
        Sana,
        lambda: diffusers.SanaTransformer2DModel(
            sample_size=8,
            num_layers=1,
            cross_attention_dim=32,
            caption_channels=8,
            num_cross_attention_heads=2,
            cross_attention_head_dim=16,
            **SIZES,
        ),
    ),
}
EXPECTED = {
    "sd3": {
        "transformer_blocks.0.attn2.norm_q.weight": "attention",
        "transformer_blocks.1.attn.add_q_proj.weight": "attention",
        "transformer_blocks.0.ff_context.net.2.weight": "feed-forward",
        "transformer_blocks.0.norm1.linear.weight": "modulation",
        "norm_out.linear.weight": "modulation",
        "time_text_embed.timestep_embedder.linear_1.weight": "embeddings",
        "context_embedder.weight": "embeddings",
        "proj_out.weight": "embeddings",
    },
    "flux": {
        "single_transformer_blocks.0.attn.to_q.weight": "attention",
        "single_transformer_blocks.0.proj_mlp.weight": "feed-forward",
        "single_transformer_blocks.0.proj_out.weight": "feed-forward",
        "single_transformer_blocks.0.norm.linear.weight": "modulation",
        "x_embedder.weight": "embeddings",
        "proj_out.weight": "embeddings",
    },
    "dit": {
        "transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight": "modulation",
        "transformer_blocks.0.ff.net.0.proj.weight": "feed-forward",
        "pos_embed.proj.weight": "embeddings",
    },
    "pixart": {
        "transformer_blocks.0.attn2.to_k.weight": "attention",
        "transformer_blocks.0.scale_shift_table": "modulation",
        "adaln_single.linear.weight": "modulation",
        "caption_projection.linear_1.weight": "embeddings",
    },
    "sana": {
        "transformer_blocks.0.ff.conv_depth.weight": "feed-forward",
        "transformer_blocks.0.attn1.to_q.weight": "attention",
        "scale_shift_table": "modulation",
        "caption_norm.weight": "modulation",
        "patch_embed.proj.weight": "embeddings",
    },
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_of_every_family_has_a_kind(family):
    kind, make = FAMILIES[family]
    backbone = object.__new__(kind)
    backbone.transformer = make()
    parameters = dict(backbone.transformer.named_parameters())
    found = layer_kinds(backbone, parameters, set())
    assert set(found) == {"attention", "feed-forward", "modulation", "embeddings"} | ({"other"} & set(found))
    assert found.get("other", []) == []
    assert sorted(name for names in found.values() for name in names) == sorted(parameters)
    kinds = {name: kind for kind, names in found.items() for name in names}
    assert {name: kinds[name] for name in EXPECTED[family]} == EXPECTED[family]


def test_what_a_method_adds_is_apart():
    backbone, task = TinySD3.load(), DigitsLT(DigitsSettings())
    pretrained = set(backbone.transformer.parameters())
    method = Grasp(GraspSettings())
    method.attach(backbone, task, torch.Generator().manual_seed(0))
    added = set(backbone.transformer.parameters()) - pretrained
    assert list(layer_kinds(backbone, method.parameters(), added)) == ["feed-forward adapter"]
    every = layer_kinds(backbone, dict(backbone.transformer.named_parameters()), added)
    assert not [name for name in every["feed-forward"] if ".up." in name]


def test_parameters_outside_the_transformer_are_other():
    backbone = TinySD3.load()
    assert layer_kinds(backbone, {"gate": torch.nn.Parameter(torch.zeros(1))}, set()) == {"other": ["gate"]}
