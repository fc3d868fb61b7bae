"""Prompts of saved pipelines are encoded in batches, and each has the embedding that it has by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from families import SAVE, save

from grasp_bench import plugins
from grasp_bench.backbones import saved
from grasp_bench.backbones.saved import PROMPTS_AT_ONCE, SavedBackbone

PROMPTS = [f"a photo of a {kind}, {number} of them" for kind in ("crane", "very long ship") for number in range(10)]


@pytest.fixture(scope="module", params=sorted(set(SAVE) - {"dit"}))  # DiT reads classes
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    return request.param, save(request.param, tmp_path_factory.mktemp(request.param)).folder


def load(folder: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> tuple[SavedBackbone, list[list[str]]]:
    """The backbone, and the prompts of each pass through its encoders."""
    backbone = plugins.load("backbones", folder[0]).load(str(folder[1]))
    encode, passes = backbone.encode_together, list[list[str]]()
    monkeypatch.setattr(backbone, "encode_together", lambda prompts: (passes.append(prompts), encode(prompts))[1])
    return backbone, passes


def test_a_pass_has_many_prompts_and_each_its_own_embedding(
    folder: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, passes = load(folder, monkeypatch)
    asked = [PROMPTS[3], "", *PROMPTS, ""]
    together = backbone.encode_prompts(asked).tensors()
    first = [PROMPTS[3], *PROMPTS[:3], *PROMPTS[4:]]
    assert passes == [first[:PROMPTS_AT_ONCE], first[PROMPTS_AT_ONCE:], [""]]

    monkeypatch.setattr(saved, "PROMPTS_AT_ONCE", 1)
    backbone, passes = load(folder, monkeypatch)
    alone = backbone.encode_prompts(asked).tensors()
    assert len(passes) == len(PROMPTS) + 1
    assert together.keys() == alone.keys()
    for name, tensor in together.items():
        assert len(tensor) == len(asked)
        torch.testing.assert_close(tensor, alone[name], rtol=1e-4, atol=1e-5)
        assert torch.equal(tensor[1], alone[name][1])  # the null condition, to the bit
    crane, ship = (2 + PROMPTS.index(f"a photo of a {kind}, 0 of them") for kind in ("crane", "very long ship"))
    assert not torch.equal(together["tokens"][crane], together["tokens"][ship])


def test_embeddings_are_the_same_bits_each_time_and_kept(
    folder: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, passes = load(folder, monkeypatch)
    found = backbone.encode_prompts(PROMPTS).tensors()
    other = load(folder, monkeypatch)[0].encode_prompts(PROMPTS).tensors()
    assert all(torch.equal(tensor, other[name]) for name, tensor in found.items())
    before = len(passes)
    again = backbone.encode_prompts(PROMPTS[::-1]).tensors()
    assert len(passes) == before
    assert all(torch.equal(tensor.flip(0), found[name]) for name, tensor in again.items())


def test_no_more_prompts_are_kept_than_are_asked_for_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved, "PROMPTS_KEPT", 4)
    backbone, passes = load(("pixart", save("pixart", tmp_path).folder), monkeypatch)
    assert len(backbone.encode_prompts(PROMPTS).tokens) == len(PROMPTS)
    backbone.encode_prompts(PROMPTS[-4:])
    assert passes[-1] == PROMPTS[16:]
    backbone.encode_prompts(PROMPTS[:2])
    assert passes[-1] == PROMPTS[:2]
    backbone.encode_prompts([*PROMPTS[-2:], *PROMPTS[:2]])
    assert passes[-1] == PROMPTS[:2]


@pytest.mark.parametrize("family", sorted(SAVE))
def test_blank_prompts_have_the_shapes_of_encoded_ones(family: str, tmp_path: Path) -> None:
    backbone = plugins.load("backbones", family).load(str(save(family, tmp_path).folder))
    backbone.set_classes(["tench, Tinca tinca", "goldfish, Carassius auratus"])
    blank = backbone.blank_prompts(2).tensors()
    encoded = backbone.encode_prompts(["", ""]).tensors()
    assert blank.keys() == encoded.keys() - {"padding"}
    assert all((each.shape, each.dtype) == (encoded[name].shape, encoded[name].dtype) for name, each in blank.items())
