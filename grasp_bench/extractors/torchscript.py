"""A network that comes as a TorchScript file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Self

from grasp_bench.errors import UserError
from grasp_bench.extractors.network import NetworkExtractor
from grasp_bench.extractors.weights import existing, refuse
from grasp_bench.home import with_home
from grasp_bench.weights import weights_folder


class TorchScript(NetworkExtractor):
    """Output of a TorchScript module for uint8 images (n, 3, H, W) of any size: float (n, d)

    The argument is a file in ``$GRASP_BENCH_WEIGHTS``, or else a path. The module does its own resizing and
    normalisation. A TorchScript file is a program that `torch.jit.load` runs, and may hold pickles: use only files that
    you trust.
    """

    version = "1"
    argument = "file"

    @classmethod
    def from_weights(cls, weights: Path | None, argument: str = "") -> Self:
        import torch

        from grasp_bench.io import file_digest

        refuse(weights, "torchscript", f": they are in the file {argument}")
        kept = weights_folder() / argument
        path = kept if kept.is_file() else existing(with_home(Path(argument)))
        warnings.warn(
            f"{path} is a TorchScript program and is run as it is; use only files that you trust", stacklevel=2
        )
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*torch.jit.load.* is deprecated")
                model = torch.jit.load(str(path), map_location="cpu").eval()
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{path}: cannot be read as TorchScript ({str(error).splitlines()[0]}).") from error
        identity = {
            "extractor": "torchscript",
            "version": cls.version,
            "weights": file_digest(path),
            "resize": "by the module",
            "normalisation": "by the module",
            "features": "what the module gives",
        }
        return cls(model, identity)
