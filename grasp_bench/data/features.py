"""Features of images: read from a file, or computed once and kept under what they were computed from."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ValidationError

from grasp_bench.checked import save_checked, undamaged
from grasp_bench.contracts.progress import Progress
from grasp_bench.data.images import ImageSet, image_digest, named, names_of, opened
from grasp_bench.errors import UserError, first_fault
from grasp_bench.io import check_file, digest, write_bytes, write_json
from grasp_bench.memory import Portion
from grasp_bench.text import counted, some

if TYPE_CHECKING:
    from grasp_bench.contracts.extractor import PretrainedExtractor

KEY = "features"
IDENTITY = "identity.json"
SHARD = 256  # images in one file of the cache


@dataclass(frozen=True)
class FeatureSet:
    """Features with what is known of the images behind them."""

    features: np.ndarray
    """float64 (n, d), finite"""
    labels: list[str] | None = None
    """Class name of each row."""
    ids: list[str] | None = None
    """Name of the image behind each row."""
    extractor: dict[str, str] | None = None
    """Identity of the extractor they come from, where the file says it."""


def holds_features(path: Path) -> bool:
    """Whether a file is for :func:`read_features` rather than for ``read_image_set``."""
    if path.suffix.lower() == ".npz" and path.is_file():
        with opened(path) as arrays:
            return KEY in arrays
    return path.suffix.lower() == ".safetensors"


def read_features(path: Path) -> FeatureSet:
    """The features in an ``.npz`` or ``.safetensors``.

    Both hold ``features`` (n, d) and may hold ``labels`` (n,): integers, and in an ``.npz`` strings too. An ``.npz``
    may hold ``ids`` (n,). :func:`write_features` keeps names, ids and the extractor in the metadata of its
    ``.safetensors``.

    Raises :class:`UserError` when the file is absent, damaged or empty, when counts differ, and for a row with NaN or
    infinity.
    """
    if path.suffix.lower() == ".npz":
        with opened(path) as arrays:
            if KEY not in arrays:
                raise UserError(f"{path}: holds {', '.join(arrays) or 'nothing'}, expected {KEY}.")
            features = _checked(path, arrays[KEY])
            labels, ids = (names_of(path, arrays, key, len(features)) for key in ("labels", "ids"))
        return FeatureSet(features, labels, ids)
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    raise UserError(f"{path}: is not a file of features. Read are .npz and .safetensors.")


def may_be_written_features(path: Path) -> bool:
    """Return whether ``path`` is a file that :func:`write_features` may have written, by its header alone."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return KEY in file.keys()  # noqa: SIM118 # it is no mapping
    except (OSError, SafetensorError):
        return False


def write_features(path: Path, found: FeatureSet) -> None:
    """Write a ``.safetensors`` that :func:`read_features` gives back."""
    from safetensors.numpy import save

    tensors, metadata = {KEY: _narrow(found.features)}, {}
    if found.labels is not None:
        classes = sorted(set(found.labels))
        tensors["labels"] = np.searchsorted(classes, found.labels).astype(np.int64)
        metadata["classes"] = json.dumps(classes)
    if found.ids is not None:
        metadata["ids"] = json.dumps(found.ids)
    if found.extractor is not None:
        metadata["extractor"] = json.dumps(found.extractor)
    write_bytes(path, save(tensors, metadata))


def cached_features(
    images: ImageSet,
    extractor: PretrainedExtractor,
    cache_dir: Path,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> np.ndarray:
    """Features of every image, float64 (n, d): from ``cache_dir`` those that it holds, the others computed and added.

    Every image is decoded first; what identifies its features is the sha256 of its pixels together with the
    extractor's identity, so neither names nor folders nor times of change matter. What was computed before an
    interruption is kept, and is not computed again; damaged parts of the cache are named, moved aside and computed
    again. Raises :class:`UserError` for unreadable images and for features that are not finite.
    """
    if not len(images):
        raise UserError(f"{images.source}: holds no image.")
    keys = images.digests(progress)
    cache = FeatureCache(cache_dir, extractor.identity, lambda message: (progress or Progress()).say(message))
    found = cache.find(set(keys))
    missing = {key: index for index, key in enumerate(keys) if key not in found}  # equal images are computed once
    items = sorted(missing.items(), key=lambda item: item[1])
    pending: dict[str, np.ndarray] = {}
    say = progress.say if progress else lambda message: None
    portion = Portion(batch_size, "images' features are extracted", say)
    bar = progress.task("features", len(items)) if progress and items else nullcontext(lambda count: None)
    try:  # what is done outlasts an error
        with bar as advance:
            for found_now in portion.over(items, lambda part: _batch(images, dict(part), extractor)):
                pending |= found_now
                found |= found_now
                advance(len(found_now))
                if len(pending) >= SHARD:
                    cache.add(pending)
                    pending = {}
    finally:
        if pending:
            cache.add(pending)
    return np.stack([found[key] for key in keys]).astype(np.float64)


class FeatureCache:
    """Features by the sha256 of the image, for one extractor.

    A folder named after the extractor's identity holds ``identity.json`` and shards: safetensors files with ``keys``
    uint8 (n, 32), which are the index, and ``features`` (n, d). A shard is written whole under the hash of its bytes,
    which is compared whenever it is read, and never changed, so that an interruption leaves whole shards only and two
    processes may fill one folder. ``say`` is told of a damaged shard, which is moved aside.
    """

    def __init__(self, cache_dir: Path, identity: dict[str, str], say: Callable[[str], None]) -> None:
        self.folder, self.say = cache_dir / digest(identity)[:32], say
        if not (self.folder / IDENTITY).exists():
            write_json(self.folder / IDENTITY, identity)

    def find(self, wanted: set[str]) -> dict[str, np.ndarray]:
        """Key → features (d,), of those that are there."""
        found: dict[str, np.ndarray] = {}
        for _, shard in undamaged(self.folder, KEY, self.say):
            keys = [row.tobytes().hex() for row in shard["keys"].numpy()]
            rows = [row for row, key in enumerate(keys) if key in wanted and key not in found]
            if rows:
                found |= zip((keys[row] for row in rows), shard[KEY].numpy()[rows], strict=True)
        return found

    def add(self, rows: dict[str, np.ndarray]) -> None:
        """Write ``rows``, key → features (d,), as one shard."""
        import torch

        keys = np.frombuffer(b"".join(map(bytes.fromhex, rows)), np.uint8).reshape(len(rows), 32)
        features = _narrow(np.stack(list(rows.values())))
        save_checked(self.folder, KEY, len(rows), {"keys": torch.tensor(keys), KEY: torch.from_numpy(features)})


def _batch(images: ImageSet, batch: dict[str, int], extractor: PretrainedExtractor) -> dict[str, np.ndarray]:
    """Key → features (d,) of the images ``batch``, key → index."""
    ids = [images.ids[index] for index in batch.values()]
    pixels = images.read(batch.values())
    if changed := [name for name, key, image in zip(ids, batch, pixels, strict=True) if image_digest(image) != key]:
        raise UserError(f"{images.source}: images changed while they were read: {some(changed)}. Start again.")
    features = extractor.features(pixels, batch_size=len(pixels))
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        names = some(name for name, ok in zip(ids, finite, strict=True) if not ok)
        raise UserError(
            f"{images.source}: {extractor.identity['extractor']} gives NaN or infinity for {names}. Look at these "
            "images and at the weights."
        )
    return dict(zip(batch, features, strict=True))


def _narrow(features: np.ndarray) -> np.ndarray:
    """float32 where nothing is lost by it: networks compute in float32."""
    narrow = features.astype(np.float32)
    return narrow if np.array_equal(narrow, features) else np.ascontiguousarray(features)


def _checked(path: Path, features: np.ndarray) -> np.ndarray:
    if features.ndim != 2 or features.dtype.kind not in "iuf":
        raise UserError(f"{path}: {KEY} is {features.dtype} {features.shape}, expected numbers of shape (n, d).")
    if 0 in features.shape:
        raise UserError(f"{path}: {KEY} has shape {features.shape}: there is nothing in it.")
    features = features.astype(np.float64)
    if len(bad := np.flatnonzero(~np.isfinite(features).all(axis=1))):
        raise UserError(
            f"{path}: NaN or infinity in {len(bad)} of {len(features)} rows of {KEY}: {some(map(str, bad))}."
        )
    return features


class _Metadata(BaseModel):
    """What :func:`write_features` says beside the tensors, each in JSON."""

    classes: list[str] | None = None
    ids: list[str] | None = None
    extractor: dict[str, str] | None = None


def _read_safetensors(path: Path) -> FeatureSet:
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(check_file(path), "pt") as file:  # torch, since numpy knows no bfloat16
            tensors = {name: file.get_tensor(name) for name in (KEY, "labels") if name in file.keys()}  # noqa: SIM118
            metadata, there = file.metadata() or {}, list(file.keys())
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file.") from error
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: cannot be read as .safetensors ({error}). It is damaged: write it again.") from error
    if narrow := [name for name, each in tensors.items() if each.is_floating_point() and each.itemsize < 2]:
        raise UserError(f"{path}: {narrow[0]} is {tensors[narrow[0]].dtype}, expected 16 bits or more. Write it again.")
    if KEY not in tensors:
        raise UserError(f"{path}: holds {', '.join(there) or 'nothing'}, expected {KEY}.")
    arrays = {name: (each.double() if each.dtype == torch.bfloat16 else each).numpy() for name, each in tensors.items()}
    features = _checked(path, arrays[KEY])
    labels = names_of(path, arrays, "labels", len(features))
    try:
        found = _Metadata(**{key: json.loads(metadata.get(key, "null")) for key in _Metadata.model_fields})
        if labels is not None and found.classes is not None:
            names = {str(index): name for index, name in enumerate(found.classes)}
            labels = named(path, "classes", [names[label] for label in labels])
    except (ValueError, KeyError, RecursionError) as error:
        why = first_fault(error) if isinstance(error, ValidationError) else error
        raise UserError(f"{path}: its metadata do not fit its tensors ({why}). Write it again.") from error
    ids = found.ids and named(path, "ids", found.ids)
    if ids is not None and len(ids) != len(features):
        raise UserError(f"{path}: {counted(len(ids), 'id')} for {counted(len(features), 'row')}. Write it again.")
    return FeatureSet(features, labels, ids, found.extractor)
