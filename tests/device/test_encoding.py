"""The stages that encode images and prompts, as if on a GPU: the transformer is not there beside the encoders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.tiny_pipelines import save_sd3

from grasp_bench.backbones.saved import SavedBackbone
from grasp_bench.backbones.sd3 import SD3
from grasp_bench.estimate.simulate import SimulatedGpu, adopt
from grasp_bench.run import encoded
from grasp_bench.run.context import Stage
from grasp_bench.run.stages import latents, prompts

CUDA = torch.device("cuda")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pipeline with every text encoder."""
    return save_sd3(tmp_path / "pipeline", tmp_path / "scratch")


@pytest.fixture
def gpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedGpu]:
    """A simulated GPU on whose host the parts of the pipeline are, each to be had once."""
    read = SD3.load(str(folder))
    parts = {part: read._load(part) for part in read.components}

    def simulated(self: SD3, part: str) -> Any:
        found = parts.pop(part)
        if isinstance(found, torch.nn.Module):
            adopt(found)
        return found

    monkeypatch.setattr(SD3, "_load", simulated)
    with SimulatedGpu() as simulation:
        yield simulation


@pytest.fixture
def backbone(gpu: SimulatedGpu, folder: Path) -> SavedBackbone:
    return SD3.load(str(folder))


def size(*modules: Any) -> int:
    """Bytes of the parameters of modules."""
    return sum(each.nbytes for module in modules for each in module.parameters())


def built(stage: Stage, backbone: SavedBackbone, monkeypatch: pytest.MonkeyPatch, encode: Callable[[], None]) -> None:
    """Build a stage, which encodes by ``encode`` instead of what reads and writes files."""
    monkeypatch.setattr(encoded, f"encode_{stage.name}", lambda *given: encode())
    plan = SimpleNamespace(spec=SimpleNamespace(budget=SimpleNamespace(horizontal_flip=False)))
    shared = dict.fromkeys(("prompts", "processes", "progress")) | {"data": SimpleNamespace(train=None)}
    stage.build(SimpleNamespace(plan=plan, device=CUDA, backbone=backbone, **shared), Path(), {})  # type: ignore[arg-type]


def test_text_encoders_are_alone(gpu: SimulatedGpu, backbone: SavedBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []

    def encode() -> None:
        pipeline = backbone.text_pipeline
        encoders = [pipeline.text_encoder, pipeline.text_encoder_2, pipeline.text_encoder_3]
        assert {each.device.type for each in encoders} == {"cuda"}
        found.append(size(*encoders) / gpu.live)
        gpu.reset()
        assert backbone.encode_together(["a dog", "a cat"]).tokens.is_cuda
        found.append(gpu.flops)

    built(prompts.STAGE, backbone, monkeypatch, encode)
    assert 0.8 < found[0] <= 1
    assert found[1] > 0
    assert not gpu.live


def test_the_autoencoder_is_alone(gpu: SimulatedGpu, backbone: SavedBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []

    def encode() -> None:
        found.append(size(backbone.autoencoder) / gpu.live)
        assert backbone.encode_images(torch.zeros(2, *backbone.image_shape, dtype=torch.uint8)).is_cuda

    built(latents.STAGE, backbone, monkeypatch, encode)
    assert 0.8 < found[0] <= 1
    assert not gpu.live
