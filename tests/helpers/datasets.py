"""Small downloads in the shape of the official ones: label files, folders, and images that decode.

Pixels and identifiers are invented, and the same for the same arguments.
"""

import csv
import pickle
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from grasp_bench.data.cxr_lt import MIMIC_TRAIN_COUNTS, NIH_TRAIN_COUNTS

CXR_FILES = {"train": "train", "validation": "balanced-val", "test": "test", "balanced-test": "balanced-test"}
CIFAR_FOLDERS = {
    (10, "binary"): "cifar-10-batches-bin",
    (10, "python"): "cifar-10-batches-py",
    (100, "binary"): "cifar-100-binary",
    (100, "python"): "cifar-100-python",
}
WNIDS = ("n01440764", "n01443537", "n01484850", "n02012849", "n03126707")
WORDS = ("tench, Tinca tinca", "goldfish, Carassius auratus", "great white shark, white shark", "crane", "crane")
REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___ year old woman with cough

 FINDINGS:

 The lungs are clear.

 IMPRESSION:

 No acute process, {label}.
 Seen by Dr. ___.
"""

Rows = dict[str, list[tuple[str, int]]]
"""Split → (class, number of the image within its class over all splits)."""


def write_image(path: Path, size: int, rng: np.random.Generator, mode: str = "L") -> None:
    """Noise of ``size`` × ``size`` pixels, in the format of the name's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size, size) if mode == "L" else (size, size, 3)
    Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8), mode).save(path)


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """CSV with the line ends of the official files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def make_nih(
    root: Path,
    layout: str = "flat",
    per_class: int | Mapping[str, int] = 2,
    size: int = 16,
    seed: int = 0,
    tested: int = 2,
) -> Path:
    """NIH-CXR-LT with ``per_class`` training images; ``layout`` is flat (images/) or folders (images_001/images/ …).

    Each class has one validation and ``tested`` test images besides, the first of which is in balanced-test; an image
    is its own patient's.
    """
    rng = np.random.default_rng(seed)
    classes = sorted(NIH_TRAIN_COUNTS)  # the official columns are not sorted by count either
    names: dict[tuple[str, int], str] = {}

    def row(label: str, number: int) -> list[str]:
        patient = f"{classes.index(label) * 1000 + number:08}"
        name = f"{patient}_{number:03}.png"
        if (label, number) not in names:
            folder = "images" if layout == "flat" else f"images_{1 + len(names) % 12:03}/images"
            names[label, number] = name
            write_image(root / folder / name, size, rng)
        return [name, *_one_hot(classes, label), patient]

    _write_splits(root, "nih-cxr-lt", ["id", *classes, "subject_id"], _rows(classes, per_class, tested), row)
    return root


def make_mimic(
    root: Path,
    base: str = "",
    per_class: int | Mapping[str, int] = 2,
    size: int = 16,
    seed: int = 0,
    reports: bool = False,
    tested: int = 2,
) -> Path:
    """MIMIC-CXR-LT, split as in :func:`make_nih`; images, and ``reports`` if wanted, are in ``root``/``base``."""
    rng = np.random.default_rng(seed)
    classes = sorted(MIMIC_TRAIN_COUNTS)

    def row(label: str, number: int) -> list[str]:
        key = classes.index(label) * 1000 + number
        subject, study = str(10_000_000 + 37 * key), str(50_000_000 + 91 * key)
        dicom = "-".join(f"{key * prime % 2**32:08x}" for prime in (2654435761, 40503, 69069, 16807, 48271))
        folder = f"files/p{subject[:2]}/p{subject}/s{study}"
        if not (root / base / folder).is_dir():
            write_image(root / base / folder / f"{dicom}.jpg", size, rng)
            if reports:
                (root / base / f"{folder}.txt").write_text(REPORT.format(label=label), encoding="utf-8")
        return [subject, study, dicom, f"{folder}/{dicom}.jpg", *_one_hot(classes, label)]

    header = ["subject_id", "study_id", "dicom_id", "path", *classes]
    _write_splits(root, "mimic-cxr-lt", header, _rows(classes, per_class, tested), row)
    return root


def write_views(path: Path, key: str, column: str, ids: Sequence[str], views: Sequence[str]) -> None:
    """The table that says from which side each image was taken: ``views`` in turn."""
    write_rows(path, [key, column], [[each, views[row % len(views)]] for row, each in enumerate(ids)])


def make_ilsvrc(
    root: Path,
    base: str = "",
    flat_val: bool = False,
    per_class: Sequence[int] = (6, 4, 3, 2, 1),
    size: int = 16,
    seed: int = 0,
) -> Path:
    """ImageNet-LT of five classes (two of them "crane"), with the images in ``root``/``base``/{train,val}.

    A class has ``per_class`` training, one validation and two test images; ``flat_val`` keeps the latter in one folder.
    """
    rng = np.random.default_rng(seed)
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for label, (wnid, count) in enumerate(zip(WNIDS, per_class, strict=True)):
        for number in range(count + 1):  # the validation image comes from the folder of the training images
            name = f"train/{wnid}/{wnid}_{number + 10}.JPEG"
            write_image(root / base / name, size, rng, "RGB")
            lists["train" if number < count else "val"].append(f"{name} {label}")
        for number in range(2):
            name = f"ILSVRC2012_val_{label * 100 + number:08}.JPEG"
            name = f"val/{name}" if flat_val else f"val/{wnid}/{name}"
            write_image(root / base / name, size, rng, "RGB")
            lists["test"].append(f"{name} {label}")
    for split, lines in lists.items():
        (root / f"ImageNet_LT_{split}.txt").write_text("\n".join(lines), encoding="utf-8")  # no final newline
    mapping = "".join(f"{wnid} {words}\n" for wnid, words in zip(WNIDS, WORDS, strict=True))
    (root / "LOC_synset_mapping.txt").write_text(mapping, encoding="utf-8")
    return root


def make_cifar(
    root: Path, classes: int, version: str = "binary", train: int = 1, test: int = 1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """CIFAR with ``train`` and ``test`` images per class, binary or python; returns images and labels as they are read.

    ``train`` images of CIFAR-10 are spread over five files, so that 10 · ``train`` must be a multiple of five.
    """
    rng = np.random.default_rng(seed)
    arrays = []
    for count in (train, test):
        labels = rng.permutation(np.repeat(np.arange(classes), count))
        arrays += [rng.integers(0, 256, (len(labels), 3, 32, 32), dtype=np.uint8), labels]
    train_images, train_labels, test_images, test_labels = arrays
    names = [f"class {label}" for label in range(classes)]
    folder = root / CIFAR_FOLDERS[classes, version]
    folder.mkdir(parents=True)
    suffix = ".bin" if version == "binary" else ""
    parts = {f"test_batch{suffix}" if classes == 10 else f"test{suffix}": (test_images, test_labels)}
    batches = [f"data_batch_{number}{suffix}" for number in range(1, 6)] if classes == 10 else [f"train{suffix}"]
    pieces = zip(np.split(train_images, len(batches)), np.split(train_labels, len(batches)), strict=True)
    parts |= dict(zip(batches, pieces, strict=True))
    for name, (images, labels) in parts.items():
        if version == "binary":
            content = cifar_records(images, labels, coarse=classes == 100)
        else:
            content = python2_batch(images, labels, "labels" if classes == 10 else "fine_labels")
        (folder / name).write_bytes(content)
    if version == "binary":
        file = folder / ("batches.meta.txt" if classes == 10 else "fine_label_names.txt")
        file.write_text("\n".join(names) + "\n\n", encoding="utf-8")
    else:
        key = "label_names" if classes == 10 else "fine_label_names"
        meta = {key: names, "num_vis": 3072}
        (folder / ("batches.meta" if classes == 10 else "meta")).write_bytes(pickle.dumps(meta, protocol=2))
    return train_images, train_labels, test_images, test_labels


def cifar_records(images: np.ndarray, labels: np.ndarray, coarse: bool) -> bytes:
    """The binary version: one or two label bytes and 3,072 of pixels an image."""
    return b"".join(
        bytes([int(label) // 5, int(label)] if coarse else [int(label)]) + image.tobytes()
        for image, label in zip(images, labels, strict=True)
    )


def python2_batch(images: np.ndarray, labels: np.ndarray, key: str) -> bytes:
    """A batch as Python 2 pickled it, opcode by opcode: its strings are byte strings, which Python 3 never writes."""

    def string(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    items = [b"K" + bytes([int(label)]) for label in labels]
    chunks = [items[start : start + 1000] for start in range(0, len(items), 1000)]
    numbers = b"".join(b"(" + b"".join(chunk) + b"e" for chunk in chunks)
    pixels = images.tobytes()
    count = b"M" + struct.pack("<H", len(images))
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85U\x01b\x87Rq\x07(K\x01"
        + (count + b"M\x00\x0c\x86")
        + (b"cnumpy\ndtype\nq\x08U\x02u1K\x00K\x01\x87Rq\x09(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb")
        + (b"\x89T" + struct.pack("<i", len(pixels)) + pixels + b"tb")
    )
    return (
        b"\x80\x02}q\x01("
        + (string(b"batch_label") + b"q\x02" + string(b"training batch 1 of 5") + b"q\x03")
        + (string(key.encode()) + b"q\x04]q\x0a" + numbers)
        + (string(b"data") + b"q\x0b" + array)
        + (string(b"filenames") + b"q\x0c]q\x0d(" + string(b"a.png") + string(b"b.png") + b"e")
        + b"u."
    )


def _one_hot(classes: Sequence[str], label: str) -> list[str]:
    return [str(int(name == label)) for name in classes]


def _rows(classes: Sequence[str], per_class: int | Mapping[str, int], tested: int = 2) -> Rows:
    rows: Rows = {split: [] for split in CXR_FILES}
    for label in classes:
        train = per_class if isinstance(per_class, int) else per_class[label]
        rows["train"] += [(label, number) for number in range(train)]
        rows["validation"] += [(label, train)]
        rows["test"] += [(label, train + 1 + number) for number in range(tested)]
        rows["balanced-test"] += [(label, train + 1)]
    return rows


def _write_splits(
    root: Path, name: str, header: Sequence[str], rows: Rows, row: Callable[[str, int], Sequence[str]]
) -> None:
    for split, suffix in CXR_FILES.items():
        values = [row(label, number) for label, number in rows[split]]
        write_rows(root / f"{name}_single-label_{suffix}.csv", header, values)
