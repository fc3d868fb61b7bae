"""Indices of weights name safetensors files beside them and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from grasp_bench.backbones.files import weights_of
from grasp_bench.errors import UserError
from grasp_bench.extractors.hf import INDEX, _files
from grasp_bench.weights import shards


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "../other/model.safetensors", "a\\b.safetensors", "x"]
)
def test_what_is_no_safetensors_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "model-1.safetensors", "b": name}}))
    with pytest.raises(UserError, match="which is no safetensors file beside it"):
        _files(tmp_path)
    (tmp_path / "transformer").mkdir()
    index = "diffusion_pytorch_model.safetensors.index.json"
    (tmp_path / "transformer" / index).write_text((tmp_path / INDEX).read_text())
    with pytest.raises(UserError, match="which is no safetensors file beside it"):
        weights_of(tmp_path, "transformer", [index])


@pytest.mark.parametrize("content", [{}, {"weight_map": []}, {"weight_map": {"a": 1}}, {"weight_map": None}])
def test_an_index_without_files_is_refused(content: dict, tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(json.dumps(content))
    with pytest.raises(UserError, match="expected a mapping weight_map"):
        shards(tmp_path / INDEX)


def test_the_files_of_an_index(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(
        json.dumps({"weight_map": {"a": "2.safetensors", "b": "1.safetensors", "c": "1.safetensors"}})
    )
    assert shards(tmp_path / INDEX) == ["1.safetensors", "2.safetensors"]
