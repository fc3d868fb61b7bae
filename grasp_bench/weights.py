"""The folder of published weights that a user fetched: of feature extractors, and of downstream classifiers."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "GRASP_BENCH_WEIGHTS"
"""Environment variable of the folder."""


def weights_folder() -> Path:
    """``$GRASP_BENCH_WEIGHTS``, or else ``grasp-bench/weights`` in ``$XDG_DATA_HOME`` (``~/.local/share``)."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(os.environ.get(VARIABLE) or Path(data, "grasp-bench", "weights")).expanduser()


def timm_file(model: str, tag: str) -> Path:
    """The file of a timm model's weights, which may not be there: ``<model>.<tag>.safetensors`` in the folder."""
    return weights_folder() / f"{model}.{tag}.safetensors"


def how_to_fetch(model: str, tag: str, repository: str) -> str:
    """Commands that put timm's weights of a model where :func:`timm_file` looks for them."""
    path = timm_file(model, tag)
    return (
        f"hf download {repository} model.safetensors --local-dir {path.parent} && "
        f"mv {path.parent / 'model.safetensors'} {path}"
    )
