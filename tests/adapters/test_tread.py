"""Image tokens that skip the middle blocks: which, where they come back, and what methods and backbones make of it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiTTransformer2DModel, FluxTransformer2DModel, PixArtTransformer2DModel, SanaTransformer2DModel
from rich.console import Console

from grasp_bench import plugins, seeds
from grasp_bench.adapters.tap import blocks
from grasp_bench.adapters.tread import draw_kept, middle, refusal, routed_training, token_routing
from grasp_bench.backbones.dit import DiT
from grasp_bench.backbones.flux import Flux
from grasp_bench.backbones.pixart import PixArt
from grasp_bench.backbones.sana import Sana
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.contracts.backbone import Backbone
from grasp_bench.contracts.method import Batch, Condition, Method, MethodSettings
from grasp_bench.contracts.progress import Progress
from grasp_bench.errors import Skip, UserError
from grasp_bench.run.files import TRAIN_LOG, TRAIN_SUMMARY
from grasp_bench.run.flops import FlopCount
from grasp_bench.run.options import Options
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.plan import plan

METHODS = sorted(plugins.entries("methods"))
SAMPLES, TOKENS, PROMPT, WIDTH = 4, 16, 12, 64  # of tiny-sd3
SMALL = {"num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4, "sample_size": 8}


@pytest.fixture(scope="module")
def backbone() -> TinySD3:
    return TinySD3.load()


def batch_for(backbone: TinySD3) -> Batch:
    generator = torch.Generator().manual_seed(3)
    prompts = backbone.encode_prompts(["a handwritten digit seven", "", "nine", "one"])
    latents, noise = torch.randn(2, SAMPLES, 1, 8, 8, generator=generator)
    times = torch.rand(SAMPLES, generator=generator)
    return Batch(
        ids=[str(number) for number in range(SAMPLES)],
        latents=latents,
        noise=noise,
        noisy=backbone.objective.add_noise(latents, noise, times),
        target=backbone.objective.target(latents, noise, times),
        condition=Condition(torch.tensor([7, 0, 9, 1]), torch.tensor([False, True, False, False]), prompts, times),
        generator=generator,
        digest=b"",
    )


def predict(backbone: TinySD3, batch: Batch, method: Method[Any] | None = None) -> torch.Tensor:
    with (method or Method(MethodSettings())).condition(batch.condition):
        return backbone.predict(batch.noisy, batch.condition.timesteps, batch.condition.prompts)


def routed(backbone: TinySD3, batch: Batch, ratio: float = 0.5, method: Method[Any] | None = None) -> torch.Tensor:
    with routed_training(backbone, ratio) as leave_tokens_out:
        leave_tokens_out(batch)
        return predict(backbone, batch, method)


# Which tokens, which blocks


def test_each_sample_keeps_as_many_tokens_of_its_own() -> None:
    kept = draw_kept(200, 16, 0.3, torch.Generator().manual_seed(0))
    assert kept.shape == (200, 16 - 4)
    assert (kept.diff(dim=1) > 0).all()
    assert len(kept.unique(dim=0)) > 100
    shares = torch.bincount(kept.flatten(), minlength=16) / 200
    assert (shares - 12 / 16).abs().max() < 0.12  # 3.9 standard deviations
    assert torch.equal(kept, draw_kept(200, 16, 0.3, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(
    ("depth", "skipped"), [(2, []), (3, [1]), (4, [1, 2]), (8, [2, 3, 4, 5]), (12, range(2, 9)), (28, range(2, 25))]
)
def test_the_blocks_are_the_papers_and_fewer_of_shallower_networks(depth: int, skipped: list[int]) -> None:
    assert list(middle(depth)) == list(skipped)


@torch.no_grad()
def test_a_sample_keeps_the_same_tokens_however_a_step_is_split(backbone: TinySD3) -> None:
    batch = batch_for(backbone)
    before = batch.generator.get_state()
    whole = routed(backbone, batch)
    assert not torch.allclose(whole, predict(backbone, batch), atol=1e-2)
    for parts in (2, 4):
        split = torch.cat([routed(backbone, part) for part in batch.split(parts)])
        torch.testing.assert_close(split, whole, rtol=1e-4, atol=1e-5)
    assert torch.equal(batch.generator.get_state(), before)  # what the method draws of it stays the same


@torch.no_grad()
def test_tokens_that_skip_stay_and_those_that_are_kept_see_each_other_alone(backbone: TinySD3) -> None:
    batch, seen = batch_for(backbone), []
    found = blocks(backbone)
    hooks = [block.register_forward_hook(lambda *seen_by: seen.append(seen_by[-1])) for block in found[:3]]
    times: list[torch.Tensor] = []
    hooks.append(backbone.transformer.time_text_embed.register_forward_hook(lambda *all: times.append(all[-1])))
    kept = draw_kept(SAMPLES, TOKENS, 0.5, torch.Generator().manual_seed(0))
    with token_routing(backbone.blocks()) as routing:
        routing.kept = kept
        predict(backbone, batch)
    for hook in hooks:
        hook.remove()
    (prompt, image), _, (prompt_after, after) = seen
    rows = torch.arange(SAMPLES)[:, None]
    skips = torch.ones(SAMPLES, TOKENS, dtype=torch.bool).index_put((rows, kept), torch.tensor(False))
    assert torch.equal(after[skips], image[skips])
    expected = image[rows, kept]
    for block in found[1:3]:
        prompt, expected = block(expected, prompt, times[0])
    assert torch.equal(after[rows, kept], expected)
    assert torch.equal(prompt_after, prompt)


@torch.no_grad()
def test_a_forward_pass_of_other_samples_is_refused(backbone: TinySD3) -> None:
    batch = batch_for(backbone)
    with token_routing(backbone.blocks()) as routing:
        routing.kept = draw_kept(2, TOKENS, 0.5, torch.Generator())
        with pytest.raises(RuntimeError, match=r"of 2 samples .* has 4"):
            predict(backbone, batch)


# What it costs, and what it leaves


@torch.no_grad()
def test_operations_fall_by_those_of_the_tokens_left_out(backbone: TinySD3) -> None:
    batch, counted = batch_for(backbone), []
    for ratio in (0.0, 0.5):
        with FlopCount() as count:
            routed(backbone, batch, ratio)
        counted.append(count.total)
    left, all_tokens = TOKENS // 2 + PROMPT, TOKENS + PROMPT
    of_layers = (
        24 * WIDTH**2 * TOKENS // 2
    )  # four projections of attention, and a feed-forward layer four times as wide
    of_attention = 4 * WIDTH * (all_tokens**2 - left**2)
    assert counted[0] - counted[1] == SAMPLES * 2 * (of_layers + of_attention)  # in two of four blocks


@torch.no_grad()
def test_at_0_and_afterwards_the_transformer_is_itself(backbone: TinySD3) -> None:
    batch = batch_for(backbone)
    before = predict(backbone, batch)
    with routed_training(backbone, 0.0):
        assert not any("forward" in vars(block) for block in blocks(backbone))
    assert torch.equal(routed(backbone, batch, 0.0), before)
    with token_routing(backbone.blocks()):
        assert torch.equal(predict(backbone, batch), before)  # before tokens are chosen all are kept
    with pytest.raises(KeyError), token_routing(backbone.blocks()):
        raise KeyError
    assert not any("forward" in vars(block) for block in blocks(backbone))
    assert torch.equal(predict(backbone, batch), before)


def test_the_default_is_off_and_changes_no_identity() -> None:
    def of(*settings: str) -> Any:
        return plan(method="lora", task="digits-lt", method_settings=settings)

    assert of().spec.id == of("tread=0").spec.id != of("tread=0.5").spec.id
    assert "tread" not in of().spec.method.settings
    assert of("tread=0.5").label == "lora~tread=0.5"
    for ratio in ("1", "-0.1"):
        with pytest.raises(UserError, match="tread="):
            of(f"tread={ratio}")


# In the harness


def started(folder: Path, *settings: str, accumulate: int = 1) -> Pipeline:
    """The stages of a run with a short training."""
    chosen = plan(method="lora", task="digits-lt", budget="smoke", method_settings=settings)
    budget = chosen.spec.budget.model_copy(update={"steps": 3, "batch_size": 8})
    chosen = replace(chosen, spec=chosen.spec.model_copy(update={"budget": budget}))
    options = Options(folder / "results", folder / "work", "cpu", accumulate=accumulate)
    return Pipeline(chosen, options, torch.device("cpu"), Progress(Console(file=io.StringIO())))


def trained(folder: Path, *settings: str, accumulate: int = 1) -> dict[str, Any]:
    """The summary and the last row of the log."""
    done = started(folder, *settings, accumulate=accumulate).trained
    (*_, row) = (done / TRAIN_LOG).read_text().splitlines()
    return json.loads((done / TRAIN_SUMMARY).read_text()) | json.loads(row)


def test_training_leaves_tokens_out_and_sees_the_same_samples(tmp_path: Path) -> None:
    dense, whole = (trained(tmp_path / name, *set_) for name, set_ in (("dense", ()), ("whole", ("tread=0.5",))))
    parts = trained(tmp_path / "parts", "tread=0.5", accumulate=2)
    assert whole["streams"] == dense["streams"] == parts["streams"]
    assert whole["loss"] == pytest.approx(parts["loss"], rel=1e-4)
    assert abs(whole["loss"] / dense["loss"] - 1) > 1e-2


# Every method


def attached(name: str) -> tuple[TinySD3, Method[Any]]:
    found, backbone = plan(method=name, task="digits-lt", method_settings=["tread=0.5"]), TinySD3.load()
    found.method.attach(backbone, found.task, seeds.generator("init", name))
    return backbone, found.method


def gradients(backbone: TinySD3, method: Method[Any], ratio: float) -> dict[str, torch.Tensor]:
    """Of the loss of a step, which may make forward passes of its own."""
    batch, parameters = batch_for(backbone), method.parameters()
    with routed_training(backbone, ratio) as leave_tokens_out:
        leave_tokens_out(batch)
        prediction = predict(backbone, batch, method)
        loss, auxiliary = method.losses(batch, prediction).mean(), method.auxiliary_loss(batch, prediction)
        (loss if auxiliary is None else loss + auxiliary).backward()
    found = {name: each.grad.clone() for name, each in parameters.items() if each.grad is not None}
    backbone.transformer.zero_grad()
    return found


@pytest.mark.parametrize("name", METHODS)
def test_a_method_starts_from_the_base_model_with_the_same_tokens_left_out(name: str, backbone: TinySD3) -> None:
    """Not from the base model itself, as it does without."""
    batch = batch_for(backbone)
    expected = routed(backbone, batch)
    theirs, method = attached(name)
    assert torch.equal(routed(theirs, batch, method=method), expected)


@pytest.mark.parametrize("name", METHODS)
def test_gradient_checkpointing_leaves_the_same_tokens_out(name: str) -> None:
    theirs, method = attached(name)
    with torch.no_grad():
        for parameter in method.parameters().values():  # away from zeros, behind which most gradients vanish
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    expected, dense = gradients(theirs, method, 0.5), gradients(theirs, method, 0.0)
    assert not all(torch.allclose(expected[key], dense[key]) for key in expected)
    theirs.enable_gradient_checkpointing()
    theirs.transformer.train()
    got = gradients(theirs, method, 0.5)
    assert got.keys() == expected.keys()
    for key in expected:
        torch.testing.assert_close(got[key], expected[key], rtol=1e-4, atol=1e-6)


# Every backbone


def bare(kind: type[Backbone], transformer: torch.nn.Module) -> Backbone:
    """A backbone of which there is the transformer alone."""
    found = kind.__new__(kind)
    found.transformer = transformer.eval()
    return found


def dit(layers: int = 3) -> Backbone:
    torch.manual_seed(0)
    return bare(DiT, DiTTransformer2DModel(num_layers=layers, num_embeds_ada_norm=3, **SMALL))


def pixart() -> Backbone:
    torch.manual_seed(0)
    sizes = SMALL | {"num_layers": 3, "caption_channels": 8, "cross_attention_dim": 16, "out_channels": 8}
    return bare(PixArt, PixArtTransformer2DModel(use_additional_conditions=False, **sizes))


ARGUMENTS: dict[str, dict[str, Any]] = {
    "dit": {"timestep": torch.tensor([3, 500]), "class_labels": torch.tensor([0, 2])},
    "pixart": {
        "timestep": torch.tensor([3, 500]),
        "encoder_hidden_states": torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1)),
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
    },
}


@pytest.mark.parametrize(("name", "make"), [("dit", dit), ("pixart", pixart)])
@torch.no_grad()
def test_tokens_of_other_families_skip_too(name: str, make: Any) -> None:
    found = make()
    assert refusal(found) is None
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))

    def output() -> torch.Tensor:
        return found.transformer(latents, return_dict=False, **ARGUMENTS[name])[0]

    dense = output()
    with token_routing(found.blocks()) as routing:
        outputs = []
        for ratio in (0.0, 0.5):
            routing.kept = draw_kept(2, TOKENS, ratio, torch.Generator().manual_seed(0))
            outputs.append(output())
    assert torch.equal(outputs[0], dense)
    assert not torch.allclose(outputs[1], dense, atol=1e-4)


def test_backbones_whose_blocks_need_all_tokens_are_refused_with_the_reason() -> None:
    torch.manual_seed(0)
    sizes = {"num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4, "num_layers": 3}
    cross = {"num_cross_attention_heads": 2, "cross_attention_head_dim": 8, "cross_attention_dim": 16}
    sana = SanaTransformer2DModel(out_channels=4, sample_size=4, caption_channels=16, **sizes, **cross)
    flux = FluxTransformer2DModel(
        num_single_layers=1, joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=(2, 2, 4), **sizes
    )
    for found, reason in (
        (bare(Sana, sana), "SanaTransformer2DModel cannot: its convolutional feed-forward layers need the whole grid"),
        (bare(Flux, flux), "FluxTransformer2DModel cannot: its blocks are given the places"),
        (dit(layers=2), "DiTTransformer2DModel has 2, expected at least 3"),
    ):
        skip = refusal(found)
        assert isinstance(skip, Skip)
        assert reason in skip.reason


@pytest.mark.parametrize("tread", ["tread=0.5", "tread=0"])
def test_a_run_on_such_a_backbone_is_skipped_where_tokens_are_left_out(
    tmp_path: Path, tread: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = started(tmp_path, tread)
    pipeline.backbone = dit(layers=2)
    monkeypatch.setattr(type(pipeline.plan.guidance), "supports", lambda *asked: Skip("nothing else is in the way"))
    skip = pipeline.outcome()
    assert isinstance(skip, Skip)
    assert ("expected at least 3" in skip.reason) == (tread == "tread=0.5")
