"""Memory that runs out: what is worked on in parts gives the same, and what cannot be says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import runs

from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.checked import find_checked
from grasp_bench.contracts.extractor import Extractor
from grasp_bench.contracts.task import ClassifierRecipe, Split
from grasp_bench.downstream import classifier
from grasp_bench.io import read_tensors
from grasp_bench.memory import Portion, in_one_part
from grasp_bench.processes import ALONE
from grasp_bench.run.encoded import Latents, StoredPrompts, encode_latents, encode_prompts
from grasp_bench.run.stages import features

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
SPLIT = Split([str(row) for row in range(40)], np.arange(40) % 2, ["a cat"] * 40, lambda rows: IMAGES[rows])
PROMPTS = [f"{number} cats" for number in range(10)]
RECIPE = ClassifierRecipe(epochs=1, batch_size=16, learning_rate=1e-3)
CPU = torch.device("cpu")


def with_room_for(most: int, call: Callable[..., Any]) -> Callable[..., Any]:
    """The call, which runs out of memory for a first argument of more than so many items."""

    def limited(items: Any, *more: Any, **named: Any) -> Any:
        if len(items) > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return call(items, *more, **named)

    return limited


def test_parts_are_halved_once_and_told() -> None:
    said, seen = list[str](), list[int]()
    portion = Portion(8, "things are done", said.append)

    def work(items: range) -> list[int]:
        seen.append(len(items))
        return with_room_for(3, list)(items)

    assert [number for part in portion.over(range(10), work) for number in part] == list(range(10))
    assert seen == [8, 4, 2, 2, 2, 2, 2]
    assert said == [f"memory ran out: from here on {count} things are done at a time" for count in (4, 2)]
    assert list(portion.over(range(3), work)) == [[0, 1], [2]]
    with pytest.raises(torch.cuda.OutOfMemoryError):
        list(portion.over(range(3), with_room_for(0, list)))
    with pytest.raises(ZeroDivisionError):
        list(portion.over([1, 0], lambda items: 1 // items[-1]))


def test_what_needs_all_of_a_batch_says_why() -> None:
    with pytest.raises(torch.cuda.OutOfMemoryError) as caught, in_one_part("all of it"):
        raise torch.cuda.OutOfMemoryError
    assert caught.value.__notes__ == ["all of it"]
    with pytest.raises(ValueError, match="else") as other, in_one_part("all of it"):
        raise ValueError("else")
    assert not hasattr(other.value, "__notes__")


def test_encoded_images_and_prompts_are_those_of_fewer_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, listener = TinySD3.load(), runs.Listener()
    images, prompts = backbone.encode_images(torch.from_numpy(IMAGES)), backbone.encode_prompts(PROMPTS)
    monkeypatch.setattr(backbone, "encode_images", with_room_for(5, backbone.encode_images))
    monkeypatch.setattr(backbone, "encode_prompts", with_room_for(3, backbone.encode_prompts))
    for name in ("latents", "prompts"):
        (tmp_path / name).mkdir()
    encode_latents(SPLIT, backbone, False, tmp_path / "latents", ALONE, listener)
    encode_prompts(PROMPTS, backbone, tmp_path / "prompts", ALONE, listener)
    assert torch.equal(Latents(tmp_path / "latents").read(np.arange(40), np.zeros(40, bool)), images)
    for name, value in StoredPrompts(tmp_path / "prompts")(PROMPTS).tensors().items():
        assert torch.equal(value, prompts.tensors()[name])
    assert "from here on 4 images are encoded at a time" in listener.said
    assert "from here on 2 prompts are encoded at a time" in listener.said


def test_features_are_extracted_from_fewer_images_at_a_time(tmp_path: Path) -> None:
    extractor, listener = Extractor(), runs.Listener()
    extractor.features = with_room_for(10, lambda images: images.mean((1, 2, 3))[:, None])  # type: ignore[method-assign]
    context: Any = SimpleNamespace(processes=ALONE, progress=listener, device=CPU)
    features._extract(context, tmp_path, SPLIT, extractor, "features")
    found = [read_tensors(path)["features"].numpy() for _, path in find_checked(tmp_path, features.PART)]
    np.testing.assert_array_equal(np.concatenate(found), IMAGES.mean((1, 2, 3))[:, None])
    assert "from here on 10 images' features are extracted at a time" in listener.said


def test_images_are_classified_fewer_at_a_time() -> None:
    model, said = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2)).eval(), list[str]()
    expected = classifier.probabilities(model, SPLIT, RECIPE, CPU)
    model.forward = with_room_for(10, model.forward)  # type: ignore[method-assign]
    np.testing.assert_allclose(classifier.probabilities(model, SPLIT, RECIPE, CPU, said.append), expected, atol=1e-6)
    assert said[-1] == "memory ran out: from here on 10 images are classified at a time"


def test_a_classifier_is_not_trained_on_parts_of_its_batch_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, recipe = classifier.build, replace(RECIPE, batch_size=20)

    def limited(*arguments: Any) -> torch.nn.Module:
        model = build(*arguments)
        model.forward = with_room_for(10, model.forward)  # type: ignore[method-assign]
        return model

    monkeypatch.setattr(classifier, "build", limited)
    with pytest.raises(torch.cuda.OutOfMemoryError) as caught:
        classifier.train(SPLIT, SPLIT, 2, recipe, ("t",), tmp_path / "work", CPU, lambda count: None)
    assert caught.value.__notes__ == [classifier.WHOLE]
