"""Images as a backbone takes them: decoded and resized when asked for, or once and for all into a cache."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from pydantic import JsonValue

from grasp_bench.data.check import too_few_bytes
from grasp_bench.data.decode import CROP, UnreadableError, read_image
from grasp_bench.data.fit import Fit
from grasp_bench.data.images import WORKERS
from grasp_bench.data.manifest import Manifest
from grasp_bench.errors import UserError
from grasp_bench.io import check_file, remove, sync_folder, write_json, writing, written_whole
from grasp_bench.locks import held

IDENTITY = "cache.json"
FORMAT = 2
SHARD = "pixels-{:05}.npy"
SHARD_BYTES = 2**28  # of pixels in a file: what an interrupted build may have to do again

Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Cache:
    """The images of a manifest as uint8 ``shape`` (C, H, W), in memory-mapped files of ``shard_rows`` images each.

    Beside every image lies the CRC-32 of its row's number and its pixels, which is compared whenever it is read.
    """

    folder: Path
    fingerprint: str
    """The digest of the manifest whose images they are."""
    shape: Shape
    shard_rows: int
    shards: list[np.ndarray]
    """Records (k,) of :func:`_record` each."""

    @classmethod
    def open(cls, folder: Path) -> Cache:
        """The cache that :func:`build_cache` left in ``folder``. Raises :class:`UserError` when it is damaged."""
        try:
            identity = json.loads(check_file(folder / IDENTITY).read_text())
            if identity.get("format") != FORMAT:
                raise ValueError("it has no checksums, as those of earlier versions")
            shape, shard_rows = tuple(identity["shape"]), identity["shard_rows"]
            parts = _parts(identity["rows"], shard_rows)
            shards = [np.load(check_file(folder / SHARD.format(number)), "r") for number in range(len(parts))]
            expected = [(len(rows), _record(shape)) for rows in parts]
            if [(*shard.shape, shard.dtype) for shard in shards] != expected:
                raise ValueError(f"its files do not hold {identity['rows']} images of {shape}")
            return cls(folder, identity["fingerprint"], shape, shard_rows, shards)
        except (OSError, EOFError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(
                f"{folder}: is damaged ({error}). Delete it and run `grasp-bench prepare` with --cache again."
            ) from error

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Images of these rows of the manifest: uint8 (k, C, H, W). Raises :class:`UserError` for a damaged one."""
        images = np.empty((len(indices), *self.shape), np.uint8)
        for at, (index, number, row) in enumerate(zip(indices, *np.divmod(indices, self.shard_rows), strict=True)):
            record = self.shards[number][row]
            images[at] = record["pixels"]
            if _checksum(images[at], int(index)) != record["crc32"]:
                raise UserError(
                    f"{self.folder / SHARD.format(number)}: is damaged: image {row} is not the one that was written. "
                    f"Delete {self.folder} and run `grasp-bench prepare` with --cache again."
                )
        return images


def _record(shape: Shape) -> np.dtype:
    """What a shard holds of each image."""
    return np.dtype([("crc32", "<u4"), ("pixels", "|u1", shape)])


def _checksum(image: np.ndarray, row: int) -> int:
    """CRC-32 of the row's number (8 bytes, little-endian) and the image's pixels: an image of another row differs."""
    return zlib.crc32(image.data, zlib.crc32(row.to_bytes(8, "little")))


class PixelReader:
    """Images of a manifest as uint8 ``shape`` (C, H, W) by ``fit``, from ``cache`` where there is one, else from files.

    Raises :class:`UserError` when ``cache`` is of another manifest or shape.
    """

    def __init__(self, root: Path, manifest: Manifest, shape: Shape, cache: Cache | None, fit: Fit = CROP) -> None:
        if cache and (cache.fingerprint, cache.shape) != (manifest.fingerprint, shape):
            raise UserError(
                f"{cache.folder}: holds other images, or images of {cache.shape} where {shape} are expected. Delete it "
                "and run `grasp-bench prepare` with --cache again."
            )
        self._root, self._shape, self._cache, self._fit = root, shape, cache, fit
        self._paths, self._sizes, self._where = map(manifest.column, ("path", "bytes", "where"))

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Images of these rows of the manifest: uint8 (k, C, H, W); the same with a cache and without.

        Raises :class:`UserError` for a file that has vanished, or has changed its size since the manifest was made.
        """
        if self._cache:
            return self._cache.read(indices)
        images = np.empty((len(indices), *self._shape), np.uint8)
        with ThreadPoolExecutor(WORKERS) as pool:
            for index, image in enumerate(pool.map(self.image, indices)):
                images[index] = image
        return images

    def image(self, row: int) -> np.ndarray:
        """One image from its file: uint8 (C, H, W)."""
        path = self._root / self._paths[row]
        try:
            size = path.stat().st_size
            if size != self._sizes[row]:
                raise UnreadableError(f"has {size:,} bytes and had {self._sizes[row]:,}")
            return read_image(path, self._shape, self._fit)
        except (OSError, UnreadableError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise UserError(
                f"{path} ({self._where[row]}) has changed since it was prepared: {reason}. Put it back, or run "
                "`grasp-bench prepare --again`."
            ) from error


def build_cache(
    root: Path,
    manifest: Manifest,
    shape: Shape,
    folder: Path,
    workers: int,
    advance: Callable[[int], None],
    fit: Fit = CROP,
    say: Callable[[str], None] | None = None,
) -> Cache:
    """Write every image of ``manifest`` into ``folder``, resized to ``shape`` (C, H, W) by ``fit``, and open it.

    A whole cache of the same images is left as it is. The files are collected in ``folder``.partial, which becomes
    ``folder`` when all are there; what an interrupted call has finished is kept. ``advance`` is called with the number
    of images done since its last call. Of several processes one fills a folder; ``say`` is told who is waited for.
    Raises :class:`UserError` as :class:`PixelReader` does, and for a full disk.
    """
    with held(
        folder.with_name(f"{folder.name}.lock"), say and (lambda who: say(f"waiting for {who}, which fills {folder}"))
    ):
        return _build_alone(root, manifest, shape, folder, workers, advance, fit)


def _build_alone(
    root: Path,
    manifest: Manifest,
    shape: Shape,
    folder: Path,
    workers: int,
    advance: Callable[[int], None],
    fit: Fit,
) -> Cache:
    """Do what :func:`build_cache` does, while no other process does it in this folder."""
    if folder.exists():
        cache = Cache.open(folder)
        PixelReader(root, manifest, shape, cache)  # which refuses a cache of other images
        advance(len(manifest))
        return cache
    partial = folder.with_name(f"{folder.name}.partial")
    shard_rows = max(1, SHARD_BYTES // prod(shape))
    identity: dict[str, JsonValue] = {
        "format": FORMAT,
        "fingerprint": manifest.fingerprint,
        "shape": [*shape],
        "rows": len(manifest),
        "shard_rows": shard_rows,
    }
    try:  # an unfinished cache of the same images is continued; one of other images is of no use
        same = json.loads(check_file(partial / IDENTITY).read_text()) == identity
    except (OSError, ValueError, RecursionError):
        same = False
    if not same:
        remove(partial)
        write_json(partial / IDENTITY, identity)
    parts = {partial / SHARD.format(number): rows for number, rows in enumerate(_parts(len(manifest), shard_rows))}
    missing = {path: rows for path, rows in parts.items() if not _is_sound(path, rows, shape)}
    left = sum(map(len, missing.values()))
    too_few_bytes(partial, left * prod(shape))
    advance(len(manifest) - left)
    reader = PixelReader(root, manifest, shape, None, fit)
    with ThreadPoolExecutor(workers) as pool:
        for path, rows in missing.items():
            # not through a memory map: where the disk is full, the system kills a process that writes through one
            with written_whole(path) as file:
                descr = npy.dtype_to_descr(_record(shape))
                npy.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": (len(rows),)})
                for row, image in zip(rows, pool.map(reader.image, rows), strict=True):
                    file.write(_checksum(image, row).to_bytes(4, "little"))
                    file.write(image.data)
                    advance(1)
    with writing(folder):
        partial.replace(folder)
        sync_folder(folder.parent)
    return Cache.open(folder)


def _is_sound(path: Path, rows: range, shape: Shape) -> bool:
    """Whether a shard of an unfinished cache is there, and every image in it as it was written."""
    try:
        shard = np.load(check_file(path), "r")
        return (*shard.shape, shard.dtype) == (len(rows), _record(shape)) and all(
            _checksum(record["pixels"], row) == record["crc32"] for record, row in zip(shard, rows, strict=True)
        )
    except (OSError, EOFError, ValueError):
        return False


def _parts(rows: int, shard_rows: int) -> list[range]:
    """Rows of each shard."""
    return [range(start, min(start + shard_rows, rows)) for start in range(0, rows, shard_rows)]
