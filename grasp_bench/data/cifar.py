"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) from either download, and the long-tailed subsets drawn from them.

The binary version is read as it is. The "python" version, which torchvision downloads, is pickles. A pickle may call
any function that it names; those that make numpy's arrays and bytes are called, and every other one is refused.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from grasp_bench import seeds
from grasp_bench.data.listing import looks_like, read_text
from grasp_bench.errors import UserError
from grasp_bench.io import check_file

IMAGES = {"train": 50_000, "test": 10_000}
SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
ALLOWED = {
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),  # from protocol 5 on
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),  # bytes, as Python 3 writes them for Python 2
}
"""Modules and names of what a pickle may call."""
AGAIN = "Unpack the download again."


class Cifar(NamedTuple):
    """Images are uint8 (n, 3, 32, 32), labels int64 (n,) indices into ``class_names``."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: list[str]


@dataclass(frozen=True)
class _Version:
    """Where one download of one data set keeps what."""

    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    labels_key: str = ""
    names_key: str = ""


BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
BINARY = {
    10: _Version("cifar-10-batches-bin", tuple(f"{b}.bin" for b in BATCHES), ("test_batch.bin",), "batches.meta.txt"),
    100: _Version("cifar-100-binary", ("train.bin",), ("test.bin",), "fine_label_names.txt"),
}
PICKLED = {
    10: _Version("cifar-10-batches-py", BATCHES, ("test_batch",), "batches.meta", "labels", "label_names"),
    100: _Version("cifar-100-python", ("train",), ("test",), "meta", "fine_labels", "fine_label_names"),
}


def read_cifar(root: Path, classes: Literal[10, 100]) -> Cifar:
    """CIFAR-10 or CIFAR-100 (fine labels) from the unpacked download in ``root``; the binary one if both are there.

    Raises :class:`UserError` when it is absent, and for a file that is missing, damaged or not of the official size.
    """
    binary, pickled = BINARY[classes], PICKLED[classes]
    version = next((version for version in (binary, pickled) if (root / version.folder).is_dir()), None)
    if version is None:
        other = looks_like(root) if root.is_dir() else None
        hint = f" This looks like {other}." if other not in (None, "cifar") else ""
        raise UserError(
            f"{root}: holds neither {binary.folder} nor {pickled.folder}.{hint} Unpack the CIFAR-{classes} download of "
            "https://www.cs.toronto.edu/~kriz/cifar.html there."
        )
    folder = root / version.folder
    names_file = folder / version.names
    if version.names_key:
        names = [
            each for each in _entry(names_file, _unpickled(names_file), version.names_key) if isinstance(each, str)
        ]
    else:
        names = [line for line in read_text(names_file).splitlines() if line]
    if len(names) != classes or len(set(names)) != classes:
        raise UserError(f"{names_file}: {len(set(names))} names of classes, expected {classes}. Unpack it again.")
    parts: list[np.ndarray] = []
    for split, files in (("train", version.train), ("test", version.test)):
        batches = [_batch(folder / file, version, classes) for file in files]
        images, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
        if len(images) != (expected := IMAGES[split]):
            raise UserError(
                f"{folder}: {len(images)} images in {', '.join(files)}, expected {expected}. Unpack it again."
            )
        parts += [images, labels]
    return Cifar(parts[0], parts[1], parts[2], parts[3], names)


def long_tail_indices(labels: np.ndarray, imbalance: float, seed: int) -> np.ndarray:
    """Indices (n,), rising, of the long-tailed subset: class i of C keeps ⌊n_max · imbalance^(-i / (C-1))⌋ images.

    The profile and its rounding down are those of CIFAR-LT (Cao et al. 2019, arXiv 1906.07413), whose numbers are
    compared in print: CIFAR-100 with an imbalance of 100 keeps 10,847 images. n_max is the size of the largest class.
    For one seed, the subset of a greater imbalance lies inside that of a lesser. Raises ValueError where ``imbalance``
    is below 1, and where a class has no image or fewer than it is to keep.
    """
    if imbalance < 1:
        raise ValueError(f"imbalance is {imbalance}, expected at least 1")
    available = np.bincount(labels)
    kept = []
    for label, count in enumerate(available.tolist()):
        share = imbalance ** (-label / max(len(available) - 1, 1))
        keep = int(available.max() * share)
        if not 0 < keep <= count:
            raise ValueError(f"class {label} has {count} images and is to keep {keep}")
        kept.append(seeds.rng("long-tail", seed, label).permutation(np.flatnonzero(labels == label))[:keep])
    return np.sort(np.concatenate(kept))


def _batch(path: Path, version: _Version, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, 3, 32, 32) and labels int64 (n,) of one file."""
    pixels, labels = _from_pickle(path, version) if version.labels_key else _from_binary(path, classes)
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise UserError(f"{path}: labels from {labels.min()} to {labels.max()}, expected 0 to {classes - 1}.")
    return pixels.reshape(-1, *SHAPE), labels


def _read(path: Path) -> bytes:
    try:
        return check_file(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). {AGAIN}") from error


def _from_binary(path: Path, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """A record is its label (of CIFAR-100: the coarse one, then the fine one), then red, green and blue by rows."""
    data, label_bytes = _read(path), 1 if classes == 10 else 2
    size = label_bytes + PIXELS
    if len(data) % size:
        raise UserError(f"{path}: {len(data)} bytes, which is not a whole number of records of {size}. {AGAIN}")
    records = np.frombuffer(data, np.uint8).reshape(-1, size)
    return records[:, label_bytes:], records[:, label_bytes - 1].astype(np.int64)


def _from_pickle(path: Path, version: _Version) -> tuple[np.ndarray, np.ndarray]:
    """The pickle is a dict of the labels, a list, and ``data``, a uint8 array of (n, 3072)."""
    batch = _unpickled(path)
    labels, pixels = _entry(path, batch, version.labels_key), batch.get("data")
    if not all(isinstance(label, int) for label in labels):
        raise UserError(f"{path}: {version.labels_key!r} is not a list of whole numbers. {AGAIN}")
    expected = len(labels) * PIXELS
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.size != expected:
        raise UserError(f"{path}: no {expected} bytes of pixels under 'data' for its {len(labels)} labels. {AGAIN}")
    return pixels, np.array(labels, np.int64)


def _entry(path: Path, batch: dict[Any, Any], key: str) -> list[Any]:
    if not isinstance(found := batch.get(key), list):
        wrong = f"{key!r} is not a list" if key in batch else f"has no {key!r}, so it is not a CIFAR file of this kind"
        raise UserError(f"{path}: {wrong}. {AGAIN}")
    return found


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which CIFAR does not need")
        return super().find_class(module, name)


def _unpickled(path: Path) -> dict[Any, Any]:
    """The dict in a pickle that calls nothing but :data:`ALLOWED`. Raises :class:`UserError` for any other content."""
    data = _read(path)
    try:
        found = _Unpickler(io.BytesIO(data), encoding="latin1").load()  # strings of Python 2 are bytes
    except Exception as error:  # what a damaged pickle raises may be anything
        raise UserError(f"{path}: is damaged or not a CIFAR file ({error}). {AGAIN}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds a {type(found).__name__}, expected a dict. {AGAIN}")
    return found
