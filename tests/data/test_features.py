"""Features from files, and the cache that is keyed by what they were computed from."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import runs
from PIL import Image
from safetensors.torch import save_file

from grasp_bench.contracts.extractor import PretrainedExtractor
from grasp_bench.data import features as module
from grasp_bench.data.features import FeatureSet, cached_features, holds_features, read_features, write_features
from grasp_bench.data.images import read_image_set
from grasp_bench.errors import UserError
from grasp_bench.extractors.pixels import Pixels


class Counting(PretrainedExtractor):
    """The mean of every channel; knows how many images it has seen."""

    def __init__(self, weights: str = "a") -> None:
        self.identity = {"extractor": "counting", "version": "1", "weights": weights}
        self.seen = 0
        self.fail_at = 10**9

    def features(self, images: Iterable[np.ndarray], batch_size: int = 64) -> np.ndarray:
        rows = [image.mean((1, 2), dtype=np.float64) for image in images]
        self.seen += len(rows)
        if self.seen > self.fail_at:
            raise KeyboardInterrupt
        return np.stack(rows)


def folder(path: Path, values: Iterable[int]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for index, value in enumerate(values):
        Image.new("L", (4, 4 + value % 3), value).save(path / f"{index}.png")
    return path


def test_folders_with_the_same_names_never_meet(tmp_path: Path) -> None:
    extractor = Counting()
    for name, value in (("real", 10), ("fake", 20)):
        images = read_image_set(folder(tmp_path / name, [value]))
        assert cached_features(images, extractor, tmp_path / "cache").tolist() == [[value] * 3]
    assert extractor.seen == 2


def test_what_is_there_is_not_computed_again_and_an_edited_image_is_seen(tmp_path: Path) -> None:
    extractor = Counting()
    images = folder(tmp_path / "x", [1, 2, 3, 2])
    first = cached_features(read_image_set(images), extractor, tmp_path / "cache")
    assert extractor.seen == 3  # equal images are computed once
    assert first.dtype == np.float64
    again = cached_features(read_image_set(images), extractor, tmp_path / "cache")
    assert extractor.seen == 3
    np.testing.assert_array_equal(first, again)
    Image.new("L", (4, 4), 99).save(images / "1.png")
    edited = cached_features(read_image_set(images), extractor, tmp_path / "cache")
    assert edited[:, 0].tolist() == [1, 99, 3, 2]
    assert extractor.seen == 4
    cached_features(read_image_set(images), other := Counting("b"), tmp_path / "cache")
    assert other.seen == 4


def test_the_pixels_count_and_not_the_file(tmp_path: Path) -> None:
    extractor = Counting()
    Image.new("L", (4, 4), 5).save(tmp_path / "a.png")
    Image.new("RGB", (4, 4), (5, 5, 5)).save(tmp_path / "b.bmp")
    cached_features(read_image_set(tmp_path), extractor, tmp_path / "cache")
    assert extractor.seen == 1


def test_sizes_count(tmp_path: Path) -> None:
    extractor = Counting()
    Image.new("L", (4, 2), 5).save(tmp_path / "a.png")
    Image.new("L", (2, 4), 5).save(tmp_path / "b.png")
    cached_features(read_image_set(tmp_path), extractor, tmp_path / "cache")
    assert extractor.seen == 2


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_results_do_not_depend_on_the_batch_size(tmp_path: Path, batch_size: int) -> None:
    images = read_image_set(folder(tmp_path / "x", range(7)))
    found = cached_features(images, Counting(), tmp_path / "cache", batch_size)
    assert found[:, 0].tolist() == list(range(7))


def test_a_real_extractor_on_mixed_sizes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for index, size in enumerate([(40, 30), (20, 20), (40, 30), (64, 48), (20, 20)]):
        Image.fromarray(rng.integers(0, 256, size).astype(np.uint8)).save(tmp_path / f"{index}.png")
    images, extractor = read_image_set(tmp_path), Pixels.from_weights(None)
    direct = extractor.features(images.read(range(5)))
    for batch_size in (1, 2, 64):
        found = cached_features(images, extractor, tmp_path / f"cache-{batch_size}", batch_size)
        np.testing.assert_allclose(found, direct, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(found, cached_features(images, extractor, tmp_path / f"cache-{batch_size}"))


def test_an_interrupted_extraction_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD", 4)
    images = read_image_set(folder(tmp_path / "x", range(10)))
    extractor = Counting()
    extractor.fail_at = 6
    with pytest.raises(KeyboardInterrupt):
        cached_features(images, extractor, tmp_path / "cache", batch_size=2)
    rest = Counting()
    assert cached_features(images, rest, tmp_path / "cache", batch_size=2)[:, 0].tolist() == list(range(10))
    assert rest.seen == 4
    assert not list((tmp_path / "cache").rglob("*.tmp"))
    identities = list((tmp_path / "cache").rglob("identity.json"))
    assert [path.read_text().count("counting") for path in identities] == [1]


def test_progress_is_reported(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []

    class Report:
        def task(self, name: str, total: int, done: int = 0) -> AbstractContextManager[object]:
            return nullcontext(lambda count: told.append((name, count)))

        def say(self, message: str) -> None:
            raise AssertionError(message)

    images = read_image_set(folder(tmp_path / "x", range(5)))
    cached_features(images, Counting(), tmp_path / "cache", 2, Report())  # type: ignore[arg-type]
    assert told == [("read", 5), ("features", 2), ("features", 2), ("features", 1)]


def test_unreadable_images_stop_it_before_anything_is_computed(tmp_path: Path) -> None:
    images = folder(tmp_path / "x", range(5))
    (images / "4.png").write_bytes(b"")
    extractor = Counting()
    with pytest.raises(UserError, match=r"1 unreadable images:\n  4.png: has zero bytes"):
        cached_features(read_image_set(images), extractor, tmp_path / "cache")
    assert extractor.seen == 0


def test_features_that_are_not_finite_are_not_kept(tmp_path: Path) -> None:
    class Broken(Counting):
        def features(self, images: Iterable[np.ndarray], batch_size: int = 64) -> np.ndarray:
            found = super().features(images)
            found[1] = np.nan
            return found

    with pytest.raises(UserError, match=r"counting gives NaN or infinity for 1.png"):
        cached_features(read_image_set(folder(tmp_path / "x", range(3))), Broken(), tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_an_image_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    images = read_image_set(folder(tmp_path / "x", [1]))
    seen = iter([np.zeros((3, 2, 2), np.uint8), np.ones((3, 2, 2), np.uint8)])
    object.__setattr__(images, "decode", lambda index: next(seen))
    with pytest.raises(UserError, match=r"changed while they were read: 0.png"):
        cached_features(images, Counting(), tmp_path / "cache")


@pytest.mark.parametrize("damage", [runs.flip_a_byte, runs.truncate], ids=["flipped", "truncated"])
def test_a_damaged_shard_is_named_and_computed_again(
    tmp_path: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    images = read_image_set(folder(tmp_path / "x", range(3)))
    expected = cached_features(images, Counting(), tmp_path / "cache")
    [shard] = (tmp_path / "cache").rglob("*.safetensors")
    damage(shard)
    extractor = Counting()
    np.testing.assert_array_equal(cached_features(images, extractor, tmp_path / "cache"), expected)
    assert extractor.seen == 3
    assert shard.name in "".join(capsys.readouterr())
    cached_features(images, extractor, tmp_path / "cache")
    assert extractor.seen == 3


VALUES = np.random.default_rng(0).normal(size=(4, 3))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_features_come_back_as_they_were_written(tmp_path: Path, dtype: type) -> None:
    values = VALUES.astype(dtype).astype(np.float64)
    whole = FeatureSet(values, ["b", "a", "b", "c"], ["w", "x", "y", "z"], {"extractor": "pixels"})
    for found in (whole, FeatureSet(values)):
        write_features(tmp_path / "x.safetensors", found)
        read = read_features(tmp_path / "x.safetensors")
        np.testing.assert_array_equal(read.features, values)
        assert (read.labels, read.ids, read.extractor) == (found.labels, found.ids, found.extractor)
    assert holds_features(tmp_path / "x.safetensors")


def test_features_of_others(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", features=VALUES.astype(np.float16), labels=np.array(list("abca")))
    read = read_features(tmp_path / "x.npz")
    assert read.labels == list("abca")
    assert read.features.dtype == np.float64
    assert holds_features(tmp_path / "x.npz")
    np.savez(tmp_path / "images.npz", images=np.zeros((1, 2, 2), np.uint8))
    assert not holds_features(tmp_path / "images.npz")
    assert not holds_features(tmp_path)
    tensors = {"features": torch.from_numpy(VALUES).bfloat16(), "labels": torch.tensor([0, 1, 1, 0])}
    save_file(tensors, tmp_path / "x.safetensors")
    read = read_features(tmp_path / "x.safetensors")
    assert read.labels == ["0", "1", "1", "0"]
    np.testing.assert_array_equal(read.features, tensors["features"].double().numpy())


BAD = [
    ({"x": VALUES}, "holds x, expected features"),
    ({"features": VALUES[0]}, r"features is float64 \(3,\)"),
    ({"features": VALUES[:0]}, "there is nothing in it"),
    ({"features": VALUES > 0}, "features is bool"),
    (
        {"features": np.where(VALUES > 1e9, VALUES, [[0.0], [np.nan], [0.0], [np.inf]])},
        "in 2 of 4 rows of features: 1, 3",
    ),
    ({"features": VALUES, "labels": np.zeros(3, int)}, "expected 4 integers or strings"),
]


@pytest.mark.parametrize(("arrays", "message"), BAD)
def test_mistakes_are_named(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)  # type: ignore[arg-type]
    save_file({key: torch.from_numpy(value.copy()) for key, value in arrays.items()}, tmp_path / "x.safetensors")
    for name in ("x.npz", "x.safetensors"):
        with pytest.raises(UserError, match=message) as caught:
            read_features(tmp_path / name)
        assert name in str(caught.value)


def test_files_that_are_no_features(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    (tmp_path / "x.csv").write_bytes(b"")
    for name, message in [
        ("x.safetensors", "cannot be read as .safetensors"),
        ("absent.safetensors", "no such file"),
        ("absent.npz", "no such file"),
        ("x.csv", "not a file of features"),
    ]:
        with pytest.raises(UserError, match=message):
            read_features(tmp_path / name)
    labels = {"features": torch.from_numpy(VALUES), "labels": torch.tensor([0, 1, 2, -1])}
    save_file(labels, tmp_path / "y.safetensors", {"classes": '["a", "b", "c"]'})
    with pytest.raises(UserError, match=r"its metadata do not fit its tensors"):
        read_features(tmp_path / "y.safetensors")
