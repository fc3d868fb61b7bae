"""Ladder side-tuning: what the side network computes, what it keeps for the backward pass, and on which backbones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DiTTransformer2DModel, FluxTransformer2DModel, PixArtTransformer2DModel, SanaTransformer2DModel
from helpers.attaching import attach, forward, sample, size, train
from torch import nn

from grasp_bench.adapters.ladder import Ladder
from grasp_bench.backbones.dit import DiT
from grasp_bench.backbones.flux import Flux
from grasp_bench.backbones.pixart import PixArt
from grasp_bench.backbones.sana import Sana
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.baselines.grasp import Grasp
from grasp_bench.baselines.ladder import LadderSettings, LadderSideTuning
from grasp_bench.contracts.backbone import Backbone
from grasp_bench.contracts.method import Method
from grasp_bench.errors import Skip

SMALL = {"num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4}


def with_numbers(method: LadderSideTuning) -> LadderSideTuning:
    """The method with nothing of it at zero any more."""
    generator = torch.Generator().manual_seed(1)
    for parameter in method.parameters().values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return method


def loss(backbone: TinySD3, method: LadderSideTuning) -> torch.Tensor:
    return method.losses(sample(backbone), forward(backbone, method)).mean()


# What it is


def test_it_is_about_as_large_as_grasp() -> None:
    (_, ladder), (_, grasp) = attach(LadderSideTuning), attach(Grasp)
    assert size(ladder) == pytest.approx(size(grasp), rel=0.1)
    assert all(name.startswith("ladder.") for name in ladder.parameters())


def test_gates_start_half_way_and_every_weight_learns() -> None:
    backbone, method = attach(LadderSideTuning)
    gates = backbone.transformer.ladder.gates
    assert [torch.sigmoid(gate).item() for gate in gates] == [0.5] * 4
    with_numbers(method)
    loss(backbone, method).backward()
    unmoved = [name for name, each in method.parameters().items() if each.grad is None or not each.grad.any()]
    assert unmoved == []


@torch.no_grad()
def test_a_gate_weighs_what_came_before_against_what_the_block_gives() -> None:
    generator = torch.Generator().manual_seed(0)
    ladder = Ladder(8, 4, [("image",)] * 3, generator)
    nn.init.normal_(ladder.up.weight, generator=generator)
    states = [{"image": torch.randn(2, 5, 8, generator=generator)} for _ in range(3)]
    condition = torch.randn(2, 8, generator=generator)

    def with_gates(*values: float) -> torch.Tensor:
        for gate, value in zip(ladder.gates, values, strict=True):
            gate.fill_(value)
        return ladder(states, condition)

    narrow = [ladder.down[index]["image"](state["image"]) for index, state in enumerate(states)]
    silent = nn.functional.silu(ladder.condition(condition))

    def by_hand(h: torch.Tensor, *read: torch.Tensor) -> torch.Tensor:
        for block, each in zip(ladder.blocks, read, strict=True):
            h = block(h if each is None else each, silent)
        return ladder.up(h)

    torch.testing.assert_close(with_gates(10, 10), by_hand(narrow[0], None, None))  # open to what came before
    torch.testing.assert_close(with_gates(10, -10), by_hand(narrow[0], None, narrow[2]))
    half = ladder.blocks[0]((narrow[0] + narrow[1]) / 2, silent)
    torch.testing.assert_close(with_gates(0, 0), ladder.up(ladder.blocks[1]((half + narrow[2]) / 2, silent)))
    with_time = ladder.blocks[0].modulation
    nn.init.normal_(with_time.weight, generator=generator)
    assert not torch.allclose(ladder(states, condition), ladder(states, -condition))


def test_the_side_network_hears_the_prompt_and_the_noise_level() -> None:
    backbone, method = attach(LadderSideTuning)
    with_numbers(method)
    added: list[torch.Tensor] = []
    backbone.transformer.ladder.register_forward_hook(lambda *seen: added.append(seen[-1].detach()))
    batch = sample(backbone)
    times, prompts = batch.condition.timesteps, batch.condition.prompts
    with torch.no_grad():
        for t, words in ((times, prompts), (1 - times, prompts), (times, prompts[torch.arange(5, -1, -1)])):
            backbone.predict(batch.noisy, t, words)
    assert not torch.allclose(added[0], added[1], atol=1e-4)
    assert not torch.allclose(added[0], added[2], atol=1e-4)


# What it keeps


def kept_for_backward(kind: type[Method[Any]], **settings: Any) -> tuple[int, int, list[torch.Tensor]]:
    """How many tensors a step keeps while blocks run, bytes of all but weights, and what the blocks give."""
    backbone, method = attach(kind, **settings)
    inside, saved, given, sizes = False, 0, [], {}

    def enter(*block_and_arguments: Any) -> None:
        nonlocal inside
        inside = True

    def leave(block: nn.Module, arguments: Any, output: tuple[torch.Tensor | None, torch.Tensor]) -> None:
        nonlocal inside
        inside = False
        given.extend(each for each in output if each is not None)

    def note(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal saved
        saved += inside
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    for block in (each.module for each in backbone.blocks()):
        block.register_forward_pre_hook(enter)
        block.register_forward_hook(leave)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        found = loss(backbone, method)
    for parameter in backbone.transformer.parameters():
        sizes.pop(parameter.untyped_storage().data_ptr(), None)
    found.backward()
    own = {id(parameter) for parameter in method.parameters().values()}
    assert not any(p.grad is not None for p in backbone.transformer.parameters() if id(p) not in own)
    return saved, sum(sizes.values()), given


def test_nothing_inside_the_backbones_blocks_is_kept_for_a_backward_pass() -> None:
    saved, _, given = kept_for_backward(LadderSideTuning)
    assert saved == 0
    assert len(given) == 2 * 4 - 1  # the last block gives no tokens of the prompt
    assert all(each.grad_fn is None for each in given)
    saved, _, given = kept_for_backward(Grasp)
    assert saved > 0
    assert all(each.grad_fn is not None for each in given)


def test_at_the_papers_width_a_step_keeps_less_than_half_of_what_adapters_inside_do() -> None:
    _, beside, _ = kept_for_backward(LadderSideTuning, side_width=64 // 8)
    _, within, _ = kept_for_backward(Grasp)
    assert beside < within / 2


def test_the_gradient_by_the_latents_is_that_of_the_whole_network() -> None:
    backbone, method = attach(LadderSideTuning)
    with_numbers(method)
    backbone.transformer.double()
    batch = sample(backbone)
    latents, prompts = batch.noisy[:1].double(), batch.condition.prompts[:1].to(batch.noisy.double())
    direction = torch.randn(latents.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def output(x: torch.Tensor) -> torch.Tensor:
        return backbone.predict(x, batch.condition.timesteps[:1].double(), prompts).square().sum()

    (gradient,) = torch.autograd.grad(output(latents.requires_grad_()), latents)
    slope = (gradient * direction).sum()
    with torch.no_grad():
        differences = (output(latents + 1e-5 * direction) - output(latents - 1e-5 * direction)) / 2e-5
    torch.testing.assert_close(slope, differences, rtol=1e-5, atol=1e-8)


def test_detach_takes_every_hook_away() -> None:
    backbone, method = attach(LadderSideTuning)
    train(backbone, method)
    method.detach()
    modules = backbone.transformer.modules()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)
    assert not hasattr(backbone.transformer, "ladder")


# Every backbone


def bare(kind: type[Backbone], transformer: nn.Module) -> Backbone:
    """A backbone of which there is the transformer alone."""
    found = kind.__new__(kind)
    found.transformer = transformer.eval().requires_grad_(False)
    return found


def family(name: str) -> tuple[Backbone, dict[str, Any]]:
    """A transformer of each family, and what it is called with."""
    torch.manual_seed(0)
    latents, times = torch.randn(2, 4, 8, 8), torch.tensor([3, 500])
    if name == "dit":
        found = bare(DiT, DiTTransformer2DModel(num_layers=2, num_embeds_ada_norm=3, sample_size=8, **SMALL))
        return found, {"hidden_states": latents, "timestep": times, "class_labels": torch.tensor([0, 2])}
    if name == "flux":
        sizes = {"num_layers": 1, "num_single_layers": 2, "pooled_projection_dim": 16, "axes_dims_rope": (2, 2, 4)}
        transformer = FluxTransformer2DModel(joint_attention_dim=16, **SMALL, **sizes)
        arguments = {"hidden_states": torch.randn(2, 6, 4), "encoder_hidden_states": torch.randn(2, 5, 16)}
        arguments |= {"pooled_projections": torch.randn(2, 16), "timestep": times / 1000}
        arguments |= {"img_ids": torch.zeros(6, 3), "txt_ids": torch.zeros(5, 3)}
        return bare(Flux, transformer), arguments
    prompts = {"encoder_hidden_states": torch.randn(2, 5, 16), "timestep": times, "hidden_states": latents}
    sizes = {"num_layers": 2, "caption_channels": 16, "cross_attention_dim": 16, "sample_size": 8}
    if name == "sana":
        cross = {"num_cross_attention_heads": 2, "cross_attention_head_dim": 8, "out_channels": 4}
        return bare(Sana, SanaTransformer2DModel(**SMALL, **sizes, **cross)), prompts
    transformer = PixArtTransformer2DModel(use_additional_conditions=False, out_channels=8, **SMALL, **sizes)
    return bare(PixArt, transformer), prompts | {
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
    }


@pytest.mark.parametrize("name", ["dit", "flux", "pixart", "sana"])
def test_it_stands_beside_every_family(name: str) -> None:
    backbone, arguments = family(name)

    def output() -> torch.Tensor:
        return backbone.transformer(return_dict=False, **arguments)[0]

    base, method = output(), LadderSideTuning(LadderSettings(side_width=8))
    assert method.supports(backbone, None) is None
    method.attach(backbone, None, torch.Generator().manual_seed(0))
    assert torch.equal(output(), base)
    with_numbers(method)
    moved = output()
    assert not torch.allclose(moved, base, atol=1e-4)
    moved.square().mean().backward()
    before = [parameter.grad.clone() for parameter in method.parameters().values()]
    backbone.transformer.zero_grad()
    backbone.enable_gradient_checkpointing()
    output().square().mean().backward()
    for parameter, gradient in zip(method.parameters().values(), before, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)
    method.detach()
    assert torch.equal(output(), base)


def test_a_network_without_blocks_is_skipped() -> None:
    skip = LadderSideTuning(LadderSettings()).supports(bare(Backbone, nn.Linear(2, 2)), None)
    assert isinstance(skip, Skip)
    assert "backbone of Linear does not name them" in skip.reason
