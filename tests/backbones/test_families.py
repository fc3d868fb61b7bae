"""What every family of saved pipelines has in common: the contract, its parts as diffusers loads them, every method."""

from __future__ import annotations

import functools
import json
import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from families import SAVE, save
from helpers.quick import quick
from tiny_flux import save_flux
from tiny_pixart import save_alpha

from grasp_bench import plugins, seeds
from grasp_bench.adapters.residual import RoutedAdapter
from grasp_bench.backbones.saved import SavedBackbone
from grasp_bench.contracts.backbone import PromptEmbeddings
from grasp_bench.contracts.method import Condition, Method, MethodSettings
from grasp_bench.errors import UserError
from grasp_bench.run.plan import plan
from grasp_bench.testing import Check, NotApplicable, backbone_checks
from grasp_bench.testing.checks import contracts

METHODS = sorted(plugins.entries("methods"))
PROMPTS = ["a handwritten digit one", "a handwritten digit two", ""]
LATENTS = {
    "dit": (0.0, 0.18215),
    "flux": (0.1159, 0.3611),
    "pixart": (0.0, 0.13025),
    "pixart-alpha": (0.0, 0.18215),
    "sana": (0.0, 0.41407),
    "sd3": (0.0609, 1.5305),
}
"""Family → what is subtracted from what its autoencoder gives, and what the rest is multiplied with."""
BOTH = ("ff", "ff_context")
FEED_FORWARDS = {
    "dit": [f"transformer_blocks.{block}.ff" for block in range(3)],
    "flux": [f"transformer_blocks.{block}.{stream}" for block in range(2) for stream in BOTH],  # of the double blocks
    "pixart": [f"transformer_blocks.{block}.ff" for block in range(2)],
    "sana": [f"transformer_blocks.{block}.ff" for block in range(2)],
    "sd3": [f"transformer_blocks.{block}.{stream}" for block in range(3) for stream in BOTH][:-1],
}
PROJECTIONS = {
    "dit": 3 * 4,
    "flux": 2 * 8 + 3,  # a single block's output is fused with its feed-forward
    "pixart": 2 * 8,
    "sana": 2 * 8,
    "sd3": 3 * 8 - 1 + 4,  # no output on the prompt's side in the last block; a second attention in one
}
"""Family → linear layers of its attention."""


@dataclass
class Saved:
    """A pipeline of a family, saved and loaded as users do."""

    name: str
    folder: Path

    @property
    def kind(self) -> type[SavedBackbone]:
        return plugins.load("backbones", self.name.partition("-")[0])

    def load(self) -> SavedBackbone:
        """The backbone, loaded again, for classes of the prompts."""
        backbone = self.kind.load(str(self.folder))
        backbone.set_classes(PROMPTS[:2])
        return backbone

    @functools.cached_property
    def pipeline(self) -> Any:
        """The same folder as diffusers itself loads it."""
        return DiffusionPipeline.from_pretrained(self.folder, local_files_only=True)

    @functools.cached_property
    def prompts(self) -> PromptEmbeddings:
        return self.load().encode_prompts(PROMPTS)

    @functools.cached_property
    def checks(self) -> dict[str, Check]:
        """The conformance suite."""
        return {check.name: check for check in backbone_checks(f"{self.name.partition('-')[0]}:{self.folder}")}


@functools.cache
def saved_in(folder: Path, name: str) -> Saved:
    """A tiny pipeline, saved once."""
    place = folder / name
    place.mkdir()
    if name == "pixart-alpha":
        return Saved(name, save_alpha(place / "pipeline", place / "scratch"))
    if name == "flux-schnell":
        return Saved(name, save_flux(place / "pipeline", place / "scratch", dev=False))
    return Saved(name, save(name, place).folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


@pytest.fixture
def saved(folder: Path, name: str) -> Saved:
    """A pipeline folder that no test changes."""
    return saved_in(folder, name)


# The contract


@pytest.mark.parametrize("check", ["declaration", *contracts("on_weights"), *contracts("on_layers")])
@pytest.mark.parametrize("name", [*SAVE, "flux-schnell", "pixart-alpha"])
def test_the_contract_is_kept(saved: Saved, check: str) -> None:
    saved.checks[check]()


@pytest.mark.parametrize(
    ("name", "check", "why"),
    [
        ("flux", "some-tokens", "places of all tokens"),
        ("sana", "some-tokens", "need the whole grid"),
        ("pixart", "some-tokens", "2 blocks have no middle"),
        ("flux", "image-attentions", "declares none"),
        ("dit", "prompt-projections", "declares none"),
    ],
)
def test_what_a_family_cannot_is_said(saved: Saved, check: str, why: str) -> None:
    with pytest.raises(NotApplicable, match=why):
        saved.checks[check]()


# Its parts


@pytest.mark.parametrize("name", SAVE)
def test_what_is_loaded_is_what_was_saved_frozen_in_float32(saved: Saved) -> None:
    backbone, pipeline = saved.load(), saved.pipeline
    found = {"transformer": backbone.transformer, "vae": backbone.autoencoder}
    found |= {name: getattr(backbone.text_pipeline, name) for name in texts(saved)} if texts(saved) else {}
    for part, module in found.items():
        assert not module.training
        state = getattr(pipeline, part).state_dict()
        for key, parameter in module.named_parameters():
            assert parameter.dtype == torch.float32
            assert not parameter.requires_grad
            assert torch.equal(parameter, state[key]), (part, key)


def texts(saved: Saved) -> list[str]:
    return [part for part in saved.kind.components if part.startswith("text_encoder")]


@pytest.mark.parametrize("name", SAVE)
def test_another_familys_pipeline_is_refused(saved: Saved, tmp_path: Path) -> None:
    own = saved.kind.components["transformer"].partition(".")[2]
    for other in SAVE.keys() - {saved.name}:
        kind = plugins.load("backbones", other)
        expected = kind.components["transformer"].partition(".")[2]
        with pytest.raises(UserError, match=f"class {own}, expected {expected}"):
            kind.describe(str(saved.folder))
    index = Path(shutil.copytree(saved.folder, tmp_path / "copy")) / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"transformer": ["diffusers", "AnyTransformer"]}))
    with pytest.raises(UserError, match=f"class AnyTransformer, expected {own}"):
        saved.kind.describe(str(index.parent))


@pytest.mark.parametrize("name", LATENTS)
def test_latents_are_the_autoencoders_own_shifted_and_scaled(saved: Saved) -> None:
    backbone, vae = saved.load(), saved.pipeline.vae
    shape = (3, *backbone.image_shape)
    pixels = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1)).byte()
    with torch.no_grad():
        encoded = vae.encode(pixels.float() / 127.5 - 1)
        expected = encoded.latent if name_of(saved) == "sana" else encoded.latent_dist.mode()
        reconstruction = vae.decode(expected).sample
    shift, scale = LATENTS[saved.name]
    latents = backbone.encode_images(pixels)
    torch.testing.assert_close(latents, (expected - shift) * scale)
    assert torch.equal(backbone.encode_images(pixels[1:2]), latents[1:2])
    decoded = backbone.decode_latents(latents)
    shown = ((reconstruction / 2 + 0.5).clamp(0, 1) * 255).numpy()
    assert np.abs(decoded.numpy() - shown).max() < 0.51
    assert torch.equal(backbone.decode_latents(latents[1:2]), decoded[1:2])
    assert decoded.float().std() > 1


def name_of(saved: Saved) -> str:
    return saved.name.partition("-")[0]


# Every method


def attach(saved: Saved, method: str) -> tuple[SavedBackbone, Method[MethodSettings]]:
    """The method with its initial weights; a test of one that does not apply to the family is skipped."""
    found, backbone = plan(method=method, task="digits-lt", method_settings=quick(method)), saved.load()
    if skip := found.method.supports(backbone, found.task):
        pytest.skip(skip.reason)
    backbone.set_classes([info.prompt for info in found.task.classes()])
    found.method.attach(backbone, found.task, seeds.generator("init", method))
    return backbone, found.method


def forward(
    saved: Saved, backbone: SavedBackbone, method: Method[MethodSettings] | None, rows: slice = slice(None)
) -> torch.Tensor:
    labels, dropped = torch.tensor([0, 3, 9]), torch.tensor([False, False, True])
    condition = Condition(labels, dropped, saved.prompts, torch.tensor([0.2, 0.6, 0.9]))[rows]
    noise = torch.randn(3, *backbone.latent_shape, generator=torch.Generator().manual_seed(2))
    with nullcontext() if method is None else method.condition(condition):
        return backbone.predict(noise[rows], condition.timesteps, condition.prompts)


def train(saved: Saved, backbone: SavedBackbone, method: Method[MethodSettings], steps: int = 2) -> None:
    optimizer = torch.optim.AdamW(method.parameters().values(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        forward(saved, backbone, method).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SAVE)
def test_every_method_starts_at_the_base_model_trains_its_own_and_leaves(saved: Saved, method: str) -> None:
    backbone, attached = attach(saved, method)
    pristine = saved.load()
    expected = forward(saved, pristine, None)
    assert torch.equal(forward(saved, backbone, attached), expected)

    own = {id(parameter) for parameter in attached.parameters().values()}
    before = [(parameter, parameter.detach().clone()) for parameter in backbone.transformer.parameters()]
    train(saved, backbone, attached)
    changed = {id(parameter) for parameter, old in before if not torch.equal(parameter, old)}
    assert changed
    assert changed <= own
    with torch.no_grad():
        mixed = forward(saved, backbone, attached)
        alone = [forward(saved, backbone, attached, slice(row, row + 1)) for row in range(3)]
    assert not torch.equal(mixed, expected)
    torch.testing.assert_close(torch.cat(alone), mixed, rtol=1e-4, atol=1e-4)

    attached.detach()
    left, state = backbone.transformer.state_dict(), pristine.transformer.state_dict()
    assert left.keys() == state.keys()
    assert all(torch.equal(left[key], state[key]) for key in state)
    assert not any(parameter.requires_grad for parameter in backbone.transformer.parameters())
    assert torch.equal(forward(saved, backbone, None), expected)


@pytest.mark.parametrize(
    ("name", "method"),
    [(name, method) for name in SAVE for method in (METHODS if name == "pixart" else ("grasp", "moe"))],
)
def test_gradient_checkpointing_changes_no_gradient(saved: Saved, method: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        backbone, attached = attach(saved, method)
        if checkpointing:
            backbone.enable_gradient_checkpointing()
            assert backbone.transformer.is_gradient_checkpointing
        backbone.transformer.train()
        train(saved, backbone, attached, 1)  # so that no adapter is zero any more
        attached.transformer.zero_grad()
        forward(saved, backbone, attached).square().mean().backward()
        gradients.append({key: p.grad for key, p in attached.parameters().items() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert any(gradient.any() for gradient in gradients[0].values())
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], gradient)


@pytest.mark.parametrize("name", SAVE)
def test_grasp_wraps_every_feed_forward_and_nothing_else(saved: Saved) -> None:
    backbone, _ = attach(saved, "grasp")
    modules = backbone.transformer.named_modules()
    assert [name for name, module in modules if isinstance(module, RoutedAdapter)] == FEED_FORWARDS[saved.name]


@pytest.mark.parametrize("name", SAVE)
def test_lora_targets_every_attention_projection_and_nothing_else(saved: Saved) -> None:
    named = saved.load().transformer.named_modules()
    linear = {name for name, module in named if isinstance(module, torch.nn.Linear) and ".attn" in name}
    _, method = attach(saved, "lora")
    targets = {name.rpartition(".lora_")[0] for name in method.parameters()}
    assert targets == linear
    assert len(targets) == PROJECTIONS[saved.name]
