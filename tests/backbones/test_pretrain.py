"""Pretraining: the same file every time, in the precision asked for, with a card that describes it."""

import json
from dataclasses import replace

import pytest
import torch

from grasp_bench.backbones.glyphs import glyph_images
from grasp_bench.backbones.pretrain import Recipe, pretrain
from grasp_bench.backbones.scenes import scene_images
from grasp_bench.backbones.tiny_sd3 import TinySD3, TinySD3At32
from grasp_bench.io import file_digest, read_tensors

RECIPE = Recipe("python -m somewhere", steps=3, batch_size=4, learning_rate=1e-3)


def images_for(member) -> tuple:
    return glyph_images(1, 8) if member is TinySD3 else scene_images(12, 32)


@pytest.mark.parametrize("member", [TinySD3, TinySD3At32])
def test_pretraining_is_deterministic(member, tmp_path) -> None:
    for name in ("a", "b"):
        torch.manual_seed(ord(name))
        pretrain(member.initialise(), *images_for(member), RECIPE, tmp_path / f"{name}.safetensors")
    assert file_digest(tmp_path / "a.safetensors") == file_digest(tmp_path / "b.safetensors")


def test_the_card_describes_the_weights(tmp_path) -> None:
    out = tmp_path / "weights.safetensors"
    pretrain(TinySD3.initialise(), *images_for(TinySD3), RECIPE, out)
    card = json.loads(out.with_suffix(".json").read_text())
    assert card["sha256"] == file_digest(out)
    expected = {"command": "python -m somewhere", "images": 62, "steps": 3, "batch_size": 4, "dtype": "float32"}
    assert card.items() >= expected.items()
    assert card["parameters"] == sum(p.numel() for p in TinySD3.initialise().transformer.parameters())


def test_weights_stored_in_half_precision_are_the_trained_ones_rounded(tmp_path) -> None:
    stored = {}
    for dtype in (torch.float32, torch.float16):
        out = tmp_path / f"{dtype}.safetensors"
        pretrain(TinySD3.initialise(), *images_for(TinySD3), replace(RECIPE, dtype=dtype), out)
        stored[dtype] = read_tensors(out)
    for name, exact in stored[torch.float32].items():
        assert torch.equal(stored[torch.float16][name], exact.half()), name


def test_training_brings_the_loss_down_and_moves_every_weight(capsys, tmp_path) -> None:
    images, prompts = images_for(TinySD3)
    before = TinySD3.initialise().transformer.state_dict()
    backbone = TinySD3.initialise()
    pretrain(backbone, images, prompts, replace(RECIPE, steps=60), tmp_path / "w.safetensors")
    after = backbone.transformer.state_dict()
    still = [name for name in before if torch.equal(before[name], after[name])]
    assert still == ["pos_embed.pos_embed"]  # fixed sines and cosines
    progress = capsys.readouterr().out.split()
    assert progress[:2] == ["step", "60/60"]
    assert float(progress[3]) < 1.5  # untrained 2.4, and 2 for a prediction of zeros
