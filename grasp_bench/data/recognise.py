"""Whose data a folder holds, so that another task's is recognised instead of reported file by file as missing."""

from __future__ import annotations

from pathlib import Path

from grasp_bench.data.listing import Problem

LABELS = ("", "LongTailCXR/", "labels/")
SIGNS: dict[str, tuple[str, ...]] = {
    "nih-cxr-lt": (
        *(f"{folder}nih-cxr-lt_single-label_*" for folder in LABELS),
        *("Data_Entry_2017*.csv*", "images_001"),
    ),
    "mimic-cxr-lt": (
        *(f"{folder}mimic-cxr-lt_single-label_*" for folder in LABELS),
        *("files/p1?", "2.0.0/files/p1?", "mimic-cxr-jpg"),
    ),
    "imagenet": ("ImageNet_LT_*.txt*", "ImageNet_LT/ImageNet_LT_*.txt*", "ILSVRC", "train/n[0-9]*", "val/n[0-9]*"),
    "cifar": ("cifar-10-batches-bin", "cifar-10-batches-py", "cifar-100-binary", "cifar-100-python"),
}
"""Files and folders, as glob patterns below the root, that give each kind of data away."""


def looks_like(root: Path) -> str | None:
    """The kind of data in ``root``, a key of :data:`SIGNS`; the first where there are several, None where none is."""
    return next((name for name in SIGNS if _has_sign(root, name)), None)


def mistaken(root: Path, expected: str) -> Problem | None:
    """What is wrong with ``root`` as a whole: it is no folder, or holds other data and no sign of the ``expected``."""
    if not root.is_dir():
        return Problem("missing folder", str(root), f"no folder, expected one with the data of {expected}")
    if _has_sign(root, expected):
        return None
    other = looks_like(root)
    return Problem("other data", str(root), f"this looks like {other}, not {expected}") if other else None


def _has_sign(root: Path, name: str) -> bool:
    return any(next(root.glob(pattern), None) is not None for pattern in SIGNS[name])
