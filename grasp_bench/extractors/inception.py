"""Inception v3 as torch-fidelity has it: the features behind the name FID."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

from grasp_bench.errors import UserError
from grasp_bench.extractors.network import NetworkExtractor
from grasp_bench.extractors.weights import drawn_apart, existing
from grasp_bench.weights import VARIABLE, weights_folder

if TYPE_CHECKING:
    import torch

FILES = ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth")
"""Names of the same file in torch-fidelity and in pytorch-fid."""
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILES[0]}"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""sha256 of the file with the 2015-12-05 weights (95,628,359 bytes)."""


class Inception(NetworkExtractor):
    """The 2,048 pooled values of torch-fidelity's Inception v3; with the 2015-12-05 weights, distances in them are FID

    The resize to 299×299 is that of the original network in TensorFlow 1: bilinear *without* antialiasing, since FID is
    defined with it. Weights: ``--weights``, or torch-fidelity's (or pytorch-fid's) file in
    ``$GRASP_BENCH_WEIGHTS`` or in torch's hub cache.
    """

    version = "1"

    @classmethod
    def from_weights(cls, weights: Path | None, argument: str = "") -> Self:
        from grasp_bench.io import file_digest

        path = existing(weights) if weights else _find()
        identity = {
            "extractor": "inception",
            "version": cls.version,
            "weights": file_digest(path),
            "resize": "to 299x299, bilinear as in TensorFlow 1, not antialiased, no crop, aspect not kept",
            "normalisation": "(x - 128) / 128",
            "features": "torch-fidelity's 2048",
        }
        return cls(_build(path), identity)

    def network(self, inputs: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.model(inputs)[0]
        return features


def is_fid(identity: Mapping[str, str]) -> bool:
    """Whether the Fréchet distance in features of this identity may be called FID."""
    return identity.get("extractor") == "inception" and identity.get("weights") == SHA256


def _find() -> Path:
    import torch

    folder, cache = weights_folder(), Path(torch.hub.get_dir()) / "checkpoints"
    for place in (folder, cache):
        for name in FILES:
            if (place / name).is_file():
                return existing(place / name)
    raise UserError(
        f"inception: its weights are missing. Expected {FILES[0]} (95,628,359 bytes, sha256 {SHA256}) in {folder} "
        f"(${VARIABLE}) or {cache}, where pytorch-fid's {FILES[1]} will do too, or anywhere with --weights. To fetch "
        f"it: curl -L --create-dirs -o {folder / FILES[0]} {URL}"
    )


def _build(path: Path) -> torch.nn.Module:
    """torch-fidelity's network with the weights of ``path``.

    torch-fidelity reads its file with the unrestricted unpickler, so it is not given the file but a copy in memory of
    the tensors that the restricted one (``weights_only``) found there.
    """
    import io

    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import (  # type: ignore[import-untyped]
        FeatureExtractorInceptionV3,
    )

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the restricted unpickler raises nearly anything on other files
        raise UserError(
            f"{path}: cannot be read as a file of tensors ({str(error).splitlines()[0]}). Expected {FILES[0]}; "
            f"fetch it again from {URL}"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{path}: holds no state dict. Expected {FILES[0]}.")
    copy = io.BytesIO()
    torch.save(dict(state), copy)
    copy.seek(0)
    try:
        network: torch.nn.Module = drawn_apart(
            lambda: FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=copy)
        )
    except RuntimeError as error:
        raise UserError(f"{path}: are not the weights of torch-fidelity's Inception v3. {error}") from error
    return network
