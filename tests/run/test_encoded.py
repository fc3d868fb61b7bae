"""Stored latents and embeddings: what they hold, how they resume, who shares the work."""

from __future__ import annotations

import itertools
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import runs

from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.checked import find_checked
from grasp_bench.contracts.backbone import PromptEmbeddings
from grasp_bench.contracts.task import Split
from grasp_bench.errors import UserError
from grasp_bench.processes import ALONE, Processes
from grasp_bench.run import encoded
from grasp_bench.run.encoded import (
    KnownPrompts,
    Latents,
    Pixels,
    StoredPrompts,
    encode_latents,
    encode_prompts,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 1, 8, 8), dtype=np.uint8)
SPLIT = Split(list("abcdefghij"), np.zeros(10, np.int64), ["a cat"] * 10, lambda rows: IMAGES[rows])
WORDS = ["", "a cat", "a dog", "one", "two", "a cat and a dog"]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(encoded, "IMAGES_PER_SHARD", 4)
    monkeypatch.setattr(encoded, "IMAGES_AT_ONCE", 3)
    monkeypatch.setattr(encoded, "PROMPTS_PER_SHARD", 4)


@pytest.fixture(scope="module")
def backbone() -> TinySD3:
    return TinySD3.load()


def in_turn(monkeypatch, count: int) -> list[Processes]:
    """Processes that do their parts one after the other: nobody waits, and each sees for itself what is done."""
    monkeypatch.setattr(Processes, "wait", lambda self: None)
    monkeypatch.setattr(Processes, "first_says", lambda self, decide: [])
    monkeypatch.setattr(Processes, "apart", lambda self, folder: nullcontext())
    return [Processes(index, count) for index in range(count)]


def test_latents_are_those_of_the_images_and_of_their_mirror_images(backbone, tmp_path):
    encode_latents(SPLIT, backbone, True, tmp_path, ALONE, runs.Listener())
    stored, pixels = Latents(tmp_path), Pixels(SPLIT, backbone)
    rows, mirrored = np.array([9, 0, 4, 4, 7]), np.array([False, True, True, False, False])
    expected = backbone.encode_images(torch.from_numpy(IMAGES[rows]))
    expected[1:3] = expected[1:3].flip(-1)
    assert torch.equal(stored.read(rows, mirrored), expected)
    assert torch.equal(pixels.read(rows, mirrored), expected)


def test_too_little_room_is_said_before_the_first_shard_is_kept(backbone, tmp_path, monkeypatch):
    latents = 2 * IMAGES.size * 4  # with mirror images, in float32
    each = {name: value[0].nbytes for name, value in backbone.encode_prompts(WORDS).tensors().items()}
    prompts, free = len(WORDS) * sum(each.values()), [0]
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free[0]))

    def encode(place: Path) -> None:
        place.mkdir(exist_ok=True)
        if place.name == "latents":
            encode_latents(SPLIT, backbone, True, place, ALONE, runs.Listener())
        else:
            encode_prompts(WORDS, backbone, place, ALONE, runs.Listener())

    for name, needed in (("latents", latents), ("prompts", prompts)):
        free[0] = needed - 1
        with pytest.raises(UserError, match=f"{name}: .* GiB are needed"):
            encode(tmp_path / name)
        assert not list((tmp_path / name).iterdir())
        free[0] = needed
        encode(tmp_path / name)
    find_checked(tmp_path / "latents", encoded.LATENTS)[0][1].unlink()
    free[0] = 2 * IMAGES[:4].size * 4  # what is there needs no more room
    encode(tmp_path / "latents")


def test_mirror_images_are_stored_only_when_they_are_asked_for(backbone, tmp_path):
    encode_latents(SPLIT, backbone, False, tmp_path, ALONE, runs.Listener())
    assert Latents(tmp_path).shards.names == ["latents"]


def test_an_interrupted_encoding_goes_on_and_a_damaged_shard_is_made_again(backbone, tmp_path, monkeypatch):
    calls, encode = itertools.count(), backbone.encode_images

    def failing(images: torch.Tensor) -> torch.Tensor:
        if next(calls) == 3:  # in the second shard
            raise KeyboardInterrupt
        return encode(images)

    monkeypatch.setattr(backbone, "encode_images", failing)
    with pytest.raises(KeyboardInterrupt):
        encode_latents(SPLIT, backbone, False, tmp_path, ALONE, runs.Listener())
    [(start, first)] = find_checked(tmp_path, encoded.LATENTS)
    assert start == 0
    kept = first.stat().st_mtime_ns
    encode_latents(SPLIT, backbone, False, tmp_path, ALONE, runs.Listener())
    assert first.stat().st_mtime_ns == kept
    runs.flip_a_byte(first)
    progress = runs.Listener()
    encode_latents(SPLIT, backbone, False, tmp_path, ALONE, progress)
    assert str(first) in progress.said
    none = np.zeros(10, bool)
    assert torch.equal(Latents(tmp_path).read(np.arange(10), none), encode(torch.from_numpy(IMAGES)))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_processes_share_the_shards_without_gaps_or_duplicates(backbone, tmp_path, monkeypatch, count):
    for process in in_turn(monkeypatch, count):
        before = {path for _, path in find_checked(tmp_path, encoded.LATENTS)}
        encode_latents(SPLIT, backbone, False, tmp_path, process, runs.Listener())
        added = {start for start, path in find_checked(tmp_path, encoded.LATENTS) if path not in before}
        assert added == set(range(0, 10, 4)[process.index :: count])
    none = np.zeros(10, bool)
    expected = backbone.encode_images(torch.from_numpy(IMAGES))
    assert torch.equal(Latents(tmp_path).read(np.arange(10), none), expected)


def masked(backbone: TinySD3, prompts: list[str]) -> PromptEmbeddings:
    """Embeddings of a family that has no pooled ones, but a mask."""
    tokens = backbone.encode_prompts(prompts).tokens
    return PromptEmbeddings(tokens, mask=tokens.abs().sum(2) > 0)


@pytest.mark.parametrize("family", ["pooled", "masked"])
def test_stored_embeddings_are_the_encoders_own(backbone, tmp_path, monkeypatch, family):
    if family == "masked":
        monkeypatch.setattr(backbone, "encode_prompts", lambda prompts: masked(TinySD3.load(), prompts))
    encode_prompts(WORDS, backbone, tmp_path, ALONE, runs.Listener())
    asked = ["two", "", "two", "a cat and a dog", "a cat"]
    expected = backbone.encode_prompts(asked).tensors()
    assert len(expected) == (2 if family == "masked" else 3)
    for source in (StoredPrompts(tmp_path), KnownPrompts(WORDS, backbone)):
        found = source(asked).tensors()
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor)


def test_every_prompt_is_encoded_once(backbone, tmp_path, monkeypatch):
    seen, encode = [], backbone.encode_prompts
    monkeypatch.setattr(backbone, "encode_prompts", lambda prompts: seen.extend(prompts) or encode(prompts))
    for _ in range(2):
        encode_prompts(WORDS, backbone, tmp_path, ALONE, runs.Listener())
    assert seen == WORDS


def test_shards_are_whole_files_named_by_their_content(backbone, tmp_path: Path):
    encode_prompts(WORDS, backbone, tmp_path, ALONE, runs.Listener())
    assert [start for start, _ in find_checked(tmp_path, encoded.PROMPTS)] == [0, 4]
    assert not list(tmp_path.glob(".*"))
