"""Weights of ImageNet that a downstream classifier may start from: timm's files, in a folder of the user's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from grasp_bench.errors import UserError

VARIABLE = "GRASP_BENCH_WEIGHTS"
"""Environment variable of the folder."""


def weights_file(model: str, tag: str) -> Path:
    """The file of a timm model's weights, which may not be there: ``<model>.<tag>.safetensors`` in the folder.

    The folder is ``$GRASP_BENCH_WEIGHTS``, or else ``grasp-bench/weights`` in ``$XDG_DATA_HOME`` (``~/.local/share``).
    """
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(os.environ.get(VARIABLE) or Path(data, "grasp-bench", "weights")) / f"{model}.{tag}.safetensors"


def check(model: str, tag: str) -> None:
    """Raise :class:`UserError` unless timm has such weights of a model and their file is there."""
    import timm

    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{model}.*")]
    if tag not in tags:
        raise UserError(f"network_weights={tag}: timm has no such weights of {model}. There are: {', '.join(tags)}.")
    path, repository = weights_file(model, tag), f"timm/{model}.{tag}"
    if not path.is_file():
        raise UserError(
            f"{path}: there is no such file, which network_weights={tag} asks for. It is model.safetensors of "
            f"{repository} on the Hugging Face Hub: `hf download {repository} model.safetensors --local-dir .`, and "
            f"rename it. The folder is that of ${VARIABLE}. Without network_weights, classifiers start from scratch."
        )


def load(model: str, tag: str, channels: int, classes: int) -> Any:
    """The timm model with these weights but a fresh last layer, for images (B, C, H, W) in [-1, 1].

    They are normalised as the weights expect; where ``channels`` is 1, timm sums the first layer's over the colours.
    Raises :class:`UserError` as :func:`check`, and for a file that does not fit.
    """
    import timm
    from safetensors import SafetensorError
    from torch import nn

    check(model, tag)
    path = weights_file(model, tag)
    try:
        network = timm.create_model(
            f"{model}.{tag}",
            pretrained=True,
            pretrained_cfg_overlay={"file": str(path)},
            in_chans=channels,
            num_classes=classes,
        )
    except (RuntimeError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path}: are not the weights of {model}.{tag} ({error}). Fetch the file again.") from error
    config = network.pretrained_cfg
    return nn.Sequential(_normalisation(config["mean"], config["std"], channels), network)


def _normalisation(mean: tuple[float, ...], std: tuple[float, ...], channels: int) -> Any:
    """From [-1, 1] to what the weights were trained on, channel by channel; for one channel by the means of both."""
    import numpy as np
    import torchvision.transforms.v2 as transforms

    centre, spread = (
        np.array(each) if channels == len(each) else np.full(channels, np.mean(each)) for each in (mean, std)
    )
    return transforms.Normalize((2 * centre - 1).tolist(), (2 * spread).tolist())
