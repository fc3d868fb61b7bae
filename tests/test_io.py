"""Files are whole or absent, and one value has one spelling."""

import errno
import os
from pathlib import Path

import pytest
import torch

from grasp_bench import io
from grasp_bench.errors import UserError


def test_equal_values_have_one_digest_whatever_their_order() -> None:
    assert io.digest({"b": 1, "a": [1, "x"]}) == io.digest({"a": [1, "x"], "b": 1})
    assert io.digest({"a": 1}) != io.digest({"a": 1.5})


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        io.write_json(tmp_path / "x.json", {"value": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.txt"
    io.write_bytes(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"x\.txt: cannot be written \(No space left on device\)"):
        io.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_tensors_round_trip(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6).reshape(2, 3).T, "b": torch.tensor(1.5, dtype=torch.float64)}
    io.write_tensors(tmp_path / "x.safetensors", tensors)
    back = io.read_tensors(tmp_path / "x.safetensors")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[key], tensors[key]) and back[key].dtype == tensors[key].dtype for key in tensors)


def test_a_mapped_tensor_is_the_one_that_was_written(tmp_path: Path) -> None:
    tensors = {"images": torch.randint(256, (5, 3, 4, 4), dtype=torch.uint8), "labels": torch.arange(5)}
    io.write_tensors(tmp_path / "t.safetensors", tensors)
    for name, tensor in tensors.items():
        found = io.mapped_tensor(tmp_path / "t.safetensors", name)
        assert (found == tensor.numpy()).all()
        assert (found[[3, 1]] == tensor[[3, 1]].numpy()).all()
