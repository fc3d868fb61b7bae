"""Weights of ImageNet that a downstream classifier may start from: timm's files, in a folder of the user's."""

from __future__ import annotations

from typing import Any

from grasp_bench.errors import UserError
from grasp_bench.weights import VARIABLE, how_to_fetch, timm_file


def check(model: str, tag: str) -> None:
    """Raise :class:`UserError` unless timm has such weights of a model and their file is there."""
    import timm

    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{model}.*")]
    if tag not in tags:
        raise UserError(f"network_weights={tag}: timm has no such weights of {model}. There are: {', '.join(tags)}.")
    path, repository = timm_file(model, tag), f"timm/{model}.{tag}"
    if not path.is_file():
        raise UserError(
            f"{path}: there is no such file, which network_weights={tag} asks for. The folder is that of ${VARIABLE}. "
            f"To fetch it: {how_to_fetch(model, tag, repository)}"
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
    path = timm_file(model, tag)
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
