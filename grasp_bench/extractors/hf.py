"""Any vision model of transformers in a local folder, such as RAD-DINO for chest X-rays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from grasp_bench.errors import UserError
from grasp_bench.extractors.network import NetworkExtractor, Preprocessing
from grasp_bench.extractors.weights import drawn_apart, refuse
from grasp_bench.home import with_home
from grasp_bench.io import digest, file_digest, read_object
from grasp_bench.weights import VARIABLE, refuse_pickled_adapters, shards, weights_folder

if TYPE_CHECKING:
    import torch

CONFIG, PREPROCESSING = "config.json", "preprocessor_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
INTERPOLATION = {2: "bilinear", 3: "bicubic"}  # as Pillow numbers them
MOST = 10_000
"""Most pixels a side that a network is given."""
_EXPECTED = (
    f"expected size (or crop_size) with height and width or shortest_edge, up to {MOST}, resample 2 (bilinear) or 3 "
    "(bicubic), and three numbers each in image_mean and image_std."
)


class HuggingFace(NetworkExtractor):
    """The class token of a transformers model's last layer, from a folder with config, preprocessor and safetensors

    The argument is the id of a repository, whose files are in ``$GRASP_BENCH_WEIGHTS/OWNER/NAME`` or in the local
    Hugging Face cache, or else a folder. A model without a class token gives the mean of its last layer over all
    positions. Size, interpolation, mean and std are those of ``preprocessor_config.json``; the whole image is resized,
    without a crop. No code from the folder is run.
    """

    version = "1"
    argument = "folder or id"

    @classmethod
    def from_weights(cls, weights: Path | None, argument: str = "") -> Self:
        refuse(weights, "hf", f": they are in the folder {argument}")
        folder = _folder(argument)
        files = _files(folder)
        preprocessing = _preprocessing(folder / PREPROCESSING)
        model = _load(folder)
        identity = {
            "extractor": f"hf:{type(model).__name__}",
            "version": cls.version,
            "weights": digest({path.name: file_digest(path) for path in files}),
            "features": "class token of the last layer" if _has_class_token(model) else "mean of the last layer",
        }
        return cls(model, identity, preprocessing)

    def network(self, inputs: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.model(pixel_values=inputs).last_hidden_state
        if states.ndim == 4:  # a convolutional network: (n, d, h, w)
            return states.mean((2, 3))
        return states[:, 0] if _has_class_token(self.model) else states.mean(1)


def _folder(argument: str) -> Path:
    """Where the files are: in the folder of weights, at the path, or in the hub's cache. Raises :class:`UserError`."""
    kept = weights_folder() / argument
    for folder in (kept, with_home(Path(argument))):
        if folder.is_dir():
            return folder
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(argument, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError) as error:
        raise UserError(
            f"hf:{argument}: its weights are missing. It is neither a folder in {weights_folder()} (${VARIABLE}) nor "
            f"one here, nor a repository in {constants.HF_HUB_CACHE}. Expected {CONFIG}, {PREPROCESSING} and "
            f"{WEIGHTS}. To fetch a repository: hf download {argument} --local-dir {kept}"
        ) from error


def _files(folder: Path) -> list[Path]:
    """The files that the features depend on. Raises :class:`UserError` for those that are missing."""
    refuse_pickled_adapters(folder)
    weights = [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        weights = [folder / INDEX, *(folder / name for name in shards(folder / INDEX))]
    files = [folder / CONFIG, folder / PREPROCESSING, *weights]
    if missing := [path.name for path in files if not path.is_file()]:
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        refused = f" {', '.join(pickled)} is a pickle, which can run any code, and is not read." if pickled else ""
        raise UserError(
            f"{folder}: lacks {', '.join(missing)}.{refused} Fetch the missing files from the same repository."
        )
    return files


def _preprocessing(path: Path) -> Preprocessing:
    config = read_object(path)
    try:
        found, off = _stated(config), abs(config.get("rescale_factor", 1 / 255) * 255 - 1)
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: {_EXPECTED}") from error
    sizes, channels = all(type(side) is int and 0 < side <= MOST for side in found.size), (*found.mean, *found.std)
    if not sizes or not len(found.mean) == len(found.std) == 3 or not np.isfinite(channels).all() or 0 in found.std:
        raise UserError(f"{path}: {_EXPECTED}")
    if not off <= 1e-3:
        raise UserError(f"{path}: rescale_factor {config['rescale_factor']} is not supported, expected 1/255.")
    return found


def _stated(config: dict[str, Any]) -> Preprocessing:
    """The preprocessing that a configuration states; it raises nearly anything where that is of another form."""
    size = config.get("crop_size") if config.get("do_center_crop") and "crop_size" in config else config.get("size")
    sides = {"height": size, "width": size} if isinstance(size, int) else dict(size or {})
    if "shortest_edge" in sides:
        sides |= {"height": sides["shortest_edge"], "width": sides["shortest_edge"]}
    keys = (("image_mean", [0] * 3), ("image_std", [1] * 3))
    mean, std = (config[key] if config.get("do_normalize", True) else default for key, default in keys)
    interpolation = INTERPOLATION[config.get("resample", 2)]
    return Preprocessing(
        (sides["height"], sides["width"]), interpolation, tuple(map(float, mean)), tuple(map(float, std))
    )


def _load(folder: Path) -> Any:
    """The model, or the vision half of a model for images and text. Raises :class:`UserError`."""
    from transformers import AutoModel

    try:
        model, progress = drawn_apart(
            lambda: AutoModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, output_loading_info=True
            )
        )
    except Exception as error:  # transformers raises nearly anything for a config that does not fit
        raise UserError(
            f"{folder}: transformers cannot load it as a model ({type(error).__name__}: {error})."
        ) from error
    # the pooler is not used, and often not in the file
    missing = sorted(key for key in progress["missing_keys"] if "pooler" not in key)
    if missing or progress["mismatched_keys"]:
        raise UserError(
            f"{folder}: its weights do not fit its {CONFIG}: {', '.join(missing[:5])} are missing or differ."
        )
    return getattr(model, "vision_model", model).float().eval()


def _has_class_token(model: Any) -> bool:
    return any(name.endswith(("cls_token", "class_embedding")) for name, _ in model.named_parameters())
