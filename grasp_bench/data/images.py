"""Sets of images to be scored: a folder, with class sub-folders or a labels file, or an ``.npz``."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np

from grasp_bench.bounds import fault
from grasp_bench.contracts.progress import Progress
from grasp_bench.data.decode import UnreadableError, decode, to_rgb
from grasp_bench.data.formats import Kind, kind_of, read_endings
from grasp_bench.data.labels import ID_COLUMNS, LABEL_COLUMNS, align, read_labels
from grasp_bench.errors import UserError
from grasp_bench.io import check_file
from grasp_bench.places import resolved
from grasp_bench.text import SHOWN, counted, printable, some

HIDDEN, NO_PICTURE = "hidden", "not recognised as a picture"
"""Why a file is ignored."""
IMAGE_KEYS = ("images", "arr_0")
CHUNK = 64  # images between two advances of the progress
WORKERS = min(8, os.cpu_count() or 1)

T = TypeVar("T")


@dataclass(frozen=True)
class ImageSet:
    """Images by name, decoded when they are asked for, by the rules of :mod:`grasp_bench.data.decode`."""

    source: Path
    ids: list[str]
    """Path of each image relative to the folder, with ``/``, sorted; of an ``.npz``, its ``ids`` or "0", "1", …"""
    labels: list[str] | None
    """Class name of each image, where classes are known."""
    columns: dict[str, list[str]]
    """The labels file's further columns, by name, in the order of ``ids``."""
    ignored: dict[str, list[str]]
    """Why files of the folder are no images of the set → their paths: to be told to the user."""
    decode: Callable[[int], np.ndarray] = field(repr=False)
    """Index → uint8 (3, H, W); raises :class:`~grasp_bench.data.decode.UnreadableError`."""

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, indices: Iterable[int]) -> list[np.ndarray]:
        """Images as uint8 (3, H, W), of any sizes. Raises one :class:`UserError` for all that are unreadable."""
        return self._each(lambda image: image, list(indices), None)

    def digests(self, progress: Progress | None = None) -> list[str]:
        """sha256 of every image's size and pixels; decodes each, and keeps none.

        Raises one :class:`UserError` for all that are unreadable, so that it is known before anything long begins.
        """
        return self._each(image_digest, range(len(self)), progress)

    def _each(self, function: Callable[[np.ndarray], T], indices: Sequence[int], progress: Progress | None) -> list[T]:
        def attempt(index: int) -> T | UnreadableError:
            try:
                return function(self.decode(index))
            except UnreadableError as error:
                return error

        results, failures = [], []
        bar = progress.task("read", len(indices)) if progress else nullcontext(lambda count: None)
        with bar as advance, ThreadPoolExecutor(WORKERS) as pool:
            for start in range(0, len(indices), CHUNK):
                chunk = indices[start : start + CHUNK]
                for index, result in zip(chunk, pool.map(attempt, chunk), strict=True):
                    if isinstance(result, UnreadableError):
                        failures.append(f"  {self.ids[index]}: {result}")
                    else:
                        results.append(result)
                advance(len(chunk))
        if failures:
            rest = [f"  and {len(failures) - SHOWN} more"] if len(failures) > SHOWN else []
            raise UserError(
                "\n".join([f"{self.source}: {len(failures)} unreadable images:", *failures[:SHOWN], *rest])
                + "\nReplace them or move them out; none is left out unasked."
            )
        return results


def image_digest(image: np.ndarray) -> str:
    """sha256 (hex) of the shape and values of a uint8 image (C, H, W)."""
    digest = hashlib.sha256("x".join(map(str, image.shape)).encode() + b":")
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def read_image_set(path: Path, labels: Path | None = None, columns: tuple[str, ...] = LABEL_COLUMNS) -> ImageSet:
    """The images of a folder, searched recursively, or of an ``.npz``.

    A file is an image where it claims to be one by its ending, and any other where Pillow recognises it by content.
    Labels come from the CSV file ``labels`` where there is one (:func:`~grasp_bench.data.labels.read_labels`; one of
    ``columns`` is the label's), else from the folder's sub-folders (the first part of each path) or the ``labels`` of
    the ``.npz``. Links to folders and files are followed. An ``.npz`` holds ``images`` (or ``arr_0``): uint8 (n, H, W)
    or (n, H, W, 1 | 3 | 4).

    Raises :class:`UserError` when it is absent or empty, when images and labels do not match one to one, for a class
    folder without images, for links that are broken or lead in a circle, and for pictures in formats that are not read.
    """
    if not path.is_dir() and path.suffix.lower() != ".npz":
        missing = (
            "is neither a folder nor an .npz file of images" if path.exists() else "there is no such folder or file"
        )
        raise UserError(f"{path}: {missing}. Give a folder of images or an .npz.")
    found = _read_folder(path, labels) if path.is_dir() else _read_npz(path)
    if labels is None:
        return found
    names, further = align(read_labels(labels, ID_COLUMNS, columns), found.ids, labels, path)
    return replace(found, labels=names, columns=further)


def _read_folder(root: Path, labels: Path | None) -> ImageSet:
    images: list[str] = []
    not_read: list[str] = []
    ignored: dict[str, list[str]] = {}
    for file in sorted(_walk(root, root, (resolved(root),))):
        if labels and resolved(root / file) == resolved(labels):
            continue
        if any(part.startswith(".") for part in PurePosixPath(file).parts):
            ignored.setdefault(HIDDEN, []).append(printable(file))
        elif PurePosixPath(file).suffix.lower() in read_endings() or (kind := _kind(root / file)) == "read":
            images.append(file)
        elif kind == "not read":
            not_read.append(file)
        else:
            ignored.setdefault(NO_PICTURE, []).append(printable(file))
    if odd := [name for name in images if not is_utf8(name)]:
        raise UserError(
            f"{root}: {len(odd)} names of images are no UTF-8: {some(map(printable, odd))}. Rename files or folders."
        )
    if not_read:
        raise UserError(
            f"{root}: {counted(len(not_read), 'file')} in formats that are not read: {some(map(printable, not_read))}. "
            "Convert them to PNG or move them out."
        )
    if not images:
        raise UserError(f"{root}: holds no image, nor do its sub-folders. Read is whatever Pillow recognises.")
    names = None if labels else _folder_labels(root, images)
    return ImageSet(root, images, names, {}, ignored, lambda index: decode(root / images[index]))


def _kind(path: Path) -> Kind:
    try:
        return kind_of(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Make it readable or move it out.") from error


def is_utf8(name: str) -> bool:
    """Return whether a name of a file, as Python gives it, is text that can be written elsewhere."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _walk(root: Path, folder: Path, above: tuple[Path, ...]) -> Iterator[str]:
    """Every file below ``folder``, relative to ``root``; ``above`` are the real paths of the folders it lies in."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder}: the folder cannot be read ({error.strerror}).") from error
    for entry in entries:
        if entry.is_symlink() and not entry.exists():
            raise UserError(f"{entry}: is a link to {entry.readlink()}, which is not there or leads back to itself.")
        if entry.is_dir():
            real = resolved(entry)
            if real in above:
                raise UserError(f"{entry}: is a link to {real}, a folder that it lies in. Remove it.")
            yield from _walk(root, entry, (*above, real))
        elif entry.is_file():
            yield entry.relative_to(root).as_posix()
        else:
            raise UserError(f"{entry}: is neither a file nor a folder. Remove it.")


def _folder_labels(root: Path, images: list[str]) -> list[str] | None:
    """The sub-folder of each image, or None where no image lies in one."""
    loose = [image for image in images if "/" not in image]
    if len(loose) == len(images):
        return None
    if loose:
        raise UserError(
            f"{root}: {counted(len(loose), 'image')} without a label lie beside the class sub-folders: "
            f"{some(map(printable, loose))}. Move them into one, or give a labels file."
        )
    names = [image.split("/", 1)[0] for image in images]
    folders = {entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    if empty := sorted(folders - set(names)):
        raise UserError(
            f"{root}: class sub-folders without an image: {some(map(printable, empty))}. Add images or remove them."
        )
    return names


def _read_npz(path: Path) -> ImageSet:
    with opened(path) as arrays:
        key = next((key for key in IMAGE_KEYS if key in arrays), None)
        if key is None:
            raise UserError(f"{path}: holds {', '.join(arrays) or 'nothing'}, expected images or arr_0.")
        images = arrays[key]
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,), (3,), (4,)):
            raise UserError(
                f"{path}: {key} is {images.dtype} {images.shape}, expected uint8 of shape (n, H, W) or (n, H, W, C) "
                "with 1, 3 or 4 channels last."
            )
        if 0 in images.shape:
            raise UserError(f"{path}: {key} has shape {images.shape}: there is no image in it.")
        # unnamed arrays: images, then labels, as guided-diffusion writes its samples
        labels = names_of(path, arrays, "arr_1" if key == "arr_0" and "arr_1" in arrays else "labels", len(images))
        ids = names_of(path, arrays, "ids", len(images)) or [str(index) for index in range(len(images))]
    if repeated := sorted(name for name, count in Counter(ids).items() if count > 1):
        raise UserError(f"{path}: ids appear more than once: {some(repeated)}. Give every image its own.")
    return ImageSet(path, ids, labels, {}, {}, lambda index: to_rgb(images[index]))


@contextmanager
def opened(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """The arrays of an ``.npz`` by name, read when they are asked for.

    Raises :class:`UserError` when the file is absent, damaged, or holds Python objects, which are never loaded; so it
    does for whatever else its arrays raise inside the block.
    """
    try:
        loaded = np.load(check_file(path), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise UserError(f"{path}: is a single array, expected an .npz. Write it with numpy.savez.")
        with loaded as arrays:
            yield arrays
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file.") from error
    except Exception as error:  # zipfile, its decoders and numpy raise nearly anything on damaged files
        raise UserError(
            f"{path}: cannot be read as .npz ({error}). It is damaged, or holds Python objects, which are never "
            "loaded: write it again with numpy.savez and arrays of numbers or strings."
        ) from error


def names_of(path: Path, arrays: Mapping[str, np.ndarray], key: str, count: int) -> list[str] | None:
    """The ``count`` integers or strings under ``key`` as strings, or None where there is no ``key``."""
    if key not in arrays:
        return None
    values = arrays[key]
    if values.shape != (count,) or values.dtype.kind not in "iuUS":
        raise UserError(f"{path}: {key} is {values.dtype} {values.shape}, expected {count} integers or strings.")
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8")
    return named(path, key, [str(value) for value in values])


def named(path: Path, key: str, names: list[str]) -> list[str]:
    """``names``, which ``path`` has under ``key``. Raises :class:`UserError` for one that is empty or no Unicode."""
    if "" in names:
        raise UserError(f"{path}: {key}[{names.index('')}] is empty.")
    if why := fault(names):
        raise UserError(f"{path}: one of {key} {why}.")
    return names
