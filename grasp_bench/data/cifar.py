"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) from either download, and the long-tailed subsets drawn from them.

The binary version is read as it is. The "python" version, which torchvision downloads, is pickles, and to load a pickle
is to run whatever its author liked; its bytes are read as a list of literals instead, and nothing in it is executed.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from grasp_bench import seeds
from grasp_bench.data.recognise import looks_like
from grasp_bench.data.tables import read_text
from grasp_bench.errors import UserError

IMAGES = {"train": 50_000, "test": 10_000}
SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
MEMO = frozenset(["PROTO", "FRAME", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"])  # opcodes that carry no value
LITERALS = frozenset(
    ["BININT", "BININT1", "BININT2", "INT", "SHORT_BINSTRING", "BINSTRING", "SHORT_BINUNICODE", "BINUNICODE"]
)

Operations = list[tuple[str, Any]]
"""Names and arguments of a pickle's opcodes."""


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
    names = _names(names_file, version.names_key)
    if len(names) != classes or len(set(names)) != classes:
        raise UserError(f"{names_file}: {len(set(names))} names of classes, expected {classes}. Unpack it again.")
    parts: list[np.ndarray] = []
    for split, files in (("train", version.train), ("test", version.test)):
        batches = [_batch(folder / file, version, classes) for file in files]
        images, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
        if len(images) != IMAGES[split]:
            raise UserError(
                f"{folder}: {len(images)} images in {', '.join(files)}, expected {IMAGES[split]}. Unpack it again."
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
    data = _read(path)
    pixels, labels = _from_pickle(path, data, version) if version.labels_key else _from_binary(path, data, classes)
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise UserError(f"{path}: labels from {labels.min()} to {labels.max()}, expected 0 to {classes - 1}.")
    return pixels.reshape(-1, *SHAPE), labels


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Unpack the download again.") from error


def _names(path: Path, key: str) -> list[str]:
    if key:
        return [name for name in _values(path, _operations(path, _read(path)), key) if isinstance(name, str)]
    return [line for line in read_text(path).splitlines() if line]


def _from_binary(path: Path, data: bytes, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """A record is its label (of CIFAR-100: the coarse one, then the fine one), then red, green and blue by rows."""
    label_bytes = 1 if classes == 10 else 2
    if len(data) % (label_bytes + PIXELS):
        raise UserError(
            f"{path}: {len(data)} bytes, which is no whole number of records of {label_bytes + PIXELS}. "
            "Unpack the download again."
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, label_bytes + PIXELS)
    return records[:, label_bytes:], records[:, label_bytes - 1].astype(np.int64)


def _from_pickle(path: Path, data: bytes, version: _Version) -> tuple[np.ndarray, np.ndarray]:
    """The pickle is a dict of the labels (a list) and ``data`` (an array, whose bytes are one literal)."""
    operations = _operations(path, data)
    labels = _values(path, operations, version.labels_key)
    if not all(isinstance(label, int) for label in labels):
        raise UserError(f"{path}: {version.labels_key!r} is no list of whole numbers. Unpack the download again.")
    literals = (_bytes(argument) for _, argument in _after(path, operations, "data"))
    expected = len(labels) * PIXELS
    pixels = next((literal for literal in literals if literal is not None and len(literal) == expected), None)
    if pixels is None:
        raise UserError(
            f"{path}: no {expected} bytes of pixels under 'data' for its {len(labels)} labels. "
            "Unpack the download again."
        )
    return np.frombuffer(pixels, np.uint8), np.array(labels, np.int64)


def _operations(path: Path, data: bytes) -> Operations:
    """What a pickle says to do, without doing it."""
    try:
        return [(code.name, argument) for code, argument, _ in pickletools.genops(data) if code.name not in MEMO]
    except ValueError as error:
        raise UserError(f"{path}: is damaged or no CIFAR file ({error}). Unpack the download again.") from error


def _after(path: Path, operations: Operations, key: str) -> Iterator[tuple[str, Any]]:
    """The opcodes that follow the string ``key``."""
    start = next((i for i, (_, argument) in enumerate(operations) if argument == key), None)
    if start is None:
        raise UserError(f"{path}: has no {key!r}, so it is no CIFAR file of this kind. Unpack the download again.")
    return iter(operations[start + 1 :])


def _values(path: Path, operations: Operations, key: str) -> list[Any]:
    """The literals in the list that is the value of ``key`` in the pickled dict."""
    following = _after(path, operations, key)
    if next(following, ("", None))[0] != "EMPTY_LIST":
        raise UserError(f"{path}: {key!r} is no list. Unpack the download again.")
    values: list[Any] = []
    pending: list[Any] = []  # read, but not yet known to belong to the list rather than to what follows it
    for name, argument in following:
        if name in ("APPEND", "APPENDS"):
            values, pending = values + pending, []
        elif name in LITERALS:
            pending.append(argument)
        elif name != "MARK":
            break
    return values


def _bytes(argument: Any) -> bytes | None:
    """A literal's bytes; a str of Python 2, and bytes at protocol 2, come as text that is Latin-1."""
    if isinstance(argument, str):
        try:
            return argument.encode("latin-1")
        except UnicodeEncodeError:
            return None
    return bytes(argument) if isinstance(argument, bytes | bytearray) else None
