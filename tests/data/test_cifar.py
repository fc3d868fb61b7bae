"""CIFAR from either download, and its long-tailed subsets."""

import importlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.datasets import make_cifar, python2_batch

from grasp_bench.data import cifar
from grasp_bench.data.cifar import long_tail_indices, read_cifar
from grasp_bench.errors import UserError


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What :func:`small_cifar` makes is of the official size here."""
    monkeypatch.setattr(cifar, "IMAGES", {"train": 200, "test": 100})


def small_cifar(root: Path, classes: int, version: str = "python") -> tuple[np.ndarray, ...]:
    return make_cifar(root, classes, version, train=200 // classes, test=100 // classes)


def assert_equal(found: cifar.Cifar, expected: tuple[np.ndarray, ...], classes: int) -> None:
    for array, other in zip(found[:4], expected, strict=True):
        assert array.dtype == (np.uint8 if array.ndim == 4 else np.int64)
        np.testing.assert_array_equal(array, other)
    assert found.class_names == [f"class {label}" for label in range(classes)]


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("version", ["binary", "python"])
def test_pixels_labels_and_names_come_back(tmp_path: Path, classes: int, version: str) -> None:
    expected = small_cifar(tmp_path, classes, version)
    assert_equal(read_cifar(tmp_path, classes), expected, classes)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_python_3_are_read_too(tmp_path: Path, protocol: int) -> None:
    expected = small_cifar(tmp_path, 100)
    for name, (images, labels) in {"train": expected[:2], "test": expected[2:]}.items():
        batch = {"batch_label": name, "fine_labels": labels.tolist(), "data": images.reshape(-1, 3072), "filenames": []}
        (tmp_path / "cifar-100-python" / name).write_bytes(pickle.dumps(batch, protocol))
    assert_equal(read_cifar(tmp_path, 100), expected, 100)


def test_the_handmade_batch_is_a_pickle_that_python_itself_reads_so() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    batch = pickle.loads(python2_batch(images, np.array([4, 0, 9]), "labels"), encoding="latin1")
    assert batch["labels"] == [4, 0, 9]
    np.testing.assert_array_equal(batch["data"], images.reshape(3, 3072))


class Call:
    """Pickled, a call of ``function``."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[object, ...]:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("where", ["key", "beside", "label", "pixels"])
def test_nothing_that_a_pickle_names_is_called(tmp_path: Path, where: str, protocol: int) -> None:
    images, labels, *_ = small_cifar(tmp_path, 100)
    victim = tmp_path / "touched"
    pixels, mischief = images.reshape(-1, 3072), Call(Path.touch, victim)
    batch: dict[object, object] = {"fine_labels": labels.tolist(), "data": pixels}
    if where == "label":
        batch["fine_labels"] = [*labels[1:].tolist(), mischief]
    elif where == "pixels":
        batch["data"] = np.array([mischief], object)
    else:
        batch[mischief if where == "key" else "x"] = mischief
    content = pickle.dumps(batch, protocol)
    (tmp_path / "cifar-100-python" / "train").write_bytes(content)
    with pytest.raises(UserError, match=r"train: is damaged or not a CIFAR file \(it asks for "):
        read_cifar(tmp_path, 100)
    assert not victim.exists()
    pickle.loads(content)
    assert victim.exists()


@pytest.mark.parametrize(
    "function", [eval, os.system, getattr, np.load, np.save, np.memmap, importlib.import_module, pickle.loads]
)
def test_functions_that_could_do_harm_are_refused(tmp_path: Path, function: Callable[..., object]) -> None:
    small_cifar(tmp_path, 100)
    (tmp_path / "cifar-100-python" / "meta").write_bytes(pickle.dumps(Call(function, "1"), protocol=2))
    with pytest.raises(UserError, match=f"meta: .*{function.__name__}, which CIFAR does not need"):
        read_cifar(tmp_path, 100)


def pixels(count: int) -> np.ndarray:
    return np.zeros((count, 3072), np.uint8)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([], "holds a list, expected a dict"),
        ({"data": pixels(1)}, "has no 'fine_labels'"),
        ({"fine_labels": 3, "data": pixels(1)}, "'fine_labels' is not a list"),
        ({"fine_labels": ["a"], "data": pixels(1)}, "not a list of whole numbers"),
        ({"fine_labels": [3, 4], "data": pixels(1)}, "no 6144 bytes of pixels under 'data' for its 2 labels"),
        ({"fine_labels": [3], "data": pixels(1).astype(float)}, "no 3072 bytes of pixels under 'data'"),
        ({"fine_labels": [3]}, "no 3072 bytes of pixels under 'data'"),
        ({"fine_labels": [100], "data": pixels(1)}, "labels from 100 to 100, expected 0 to 99"),
        ({"fine_labels": [3], "data": pixels(1)}, "1 images in train, expected 200"),
    ],
)
def test_pickles_that_are_no_batch(tmp_path: Path, batch: object, message: str) -> None:
    small_cifar(tmp_path, 100)
    (tmp_path / "cifar-100-python" / "train").write_bytes(pickle.dumps(batch, protocol=3))
    with pytest.raises(UserError, match=message) as caught:
        read_cifar(tmp_path, 100)
    assert "cifar-100-python" in str(caught.value)


@pytest.mark.parametrize("version", ["binary", "python"])
def test_damaged_and_missing_files(tmp_path: Path, version: str) -> None:
    small_cifar(tmp_path, 10, version)
    path = next(tmp_path.glob("*/data_batch_3*"))
    content = path.read_bytes()
    for damaged in (content[:-100], b"not a file of CIFAR"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"data_batch_3.*Unpack the download again"):
            read_cifar(tmp_path, 10)
    path.unlink()
    with pytest.raises(UserError, match=r"data_batch_3.*cannot be read"):
        read_cifar(tmp_path, 10)


def test_the_wrong_number_of_names_or_images(tmp_path: Path) -> None:
    small_cifar(tmp_path, 10, "binary")
    names = tmp_path / "cifar-10-batches-bin" / "batches.meta.txt"
    text = names.read_text()
    names.write_text(text.replace("class 3", "class 4"))
    with pytest.raises(UserError, match=r"batches.meta.txt: 9 names of classes, expected 10"):
        read_cifar(tmp_path, 10)
    names.write_text(text)
    test = tmp_path / "cifar-10-batches-bin" / "test_batch.bin"
    test.write_bytes(test.read_bytes()[3073:])
    with pytest.raises(UserError, match=r"99 images in test_batch.bin, expected 100"):
        read_cifar(tmp_path, 10)


def test_no_download_and_another_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds neither cifar-100-binary nor cifar-100-python"):
        read_cifar(tmp_path, 100)
    (tmp_path / "images_001").mkdir()
    with pytest.raises(UserError, match="This looks like nih-cxr-lt"):
        read_cifar(tmp_path, 100)


@pytest.mark.parametrize(
    ("classes", "imbalance", "total"),
    [(10, 100, 12_406), (10, 10, 20_431), (100, 100, 10_847), (100, 50, 12_608), (100, 10, 19_573)],
)
def test_long_tails_have_the_published_sizes(classes: int, imbalance: int, total: int) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(classes), 50_000 // classes))
    indices = long_tail_indices(labels, imbalance, seed=0)
    counts = np.bincount(labels[indices])
    assert len(indices) == total
    assert counts.max() == counts[0] == 50_000 // classes
    assert counts.min() == counts[-1] == 50_000 // classes // imbalance
    assert (np.diff(indices) > 0).all()


def test_long_tails_are_seeded_and_nested() -> None:
    labels = np.repeat(np.arange(10), 50)
    first, same, other = (long_tail_indices(labels, 10, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert set(first.tolist()) != set(other.tolist())
    assert set(long_tail_indices(labels, 50, 0).tolist()) < set(first.tolist())
    np.testing.assert_array_equal(long_tail_indices(labels, 1, 0), np.arange(500))


@pytest.mark.parametrize(
    ("labels", "imbalance", "message"),
    [
        ([0, 0, 1, 1], 0.5, "imbalance is 0.5, expected at least 1"),
        ([0, 0, 1, 1], 10, "class 1 has 2 images and is to keep 0"),
        ([0, 1, 1], 1, "class 0 has 1 images and is to keep 2"),
    ],
)
def test_long_tails_that_cannot_be(labels: list[int], imbalance: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        long_tail_indices(np.array(labels), imbalance, 0)
