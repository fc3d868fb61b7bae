"""The networks of downstream classifiers."""

from __future__ import annotations

import torch

from grasp_bench.errors import UserError, did_you_mean

SMALL = "small-cnn"
TIMM = "timm:"


def check(network: str, channels: int, size: int, classes: int) -> None:
    """Raise :class:`UserError` unless ``network`` takes images of ``size`` pixels per side; computes nothing."""
    with torch.device("meta"):
        model = build(network, channels, classes).train()
        try:
            model(torch.zeros(2, channels, size, size))
        except (RuntimeError, ValueError, AssertionError) as error:
            raise UserError(
                f"network {network!r} takes no images of {size} pixels per side ({error}). Choose another network, or "
                "a recipe with a larger resolution."
            ) from error


def build(network: str, channels: int, classes: int) -> torch.nn.Module:
    """A network with fresh weights from torch's global generator: images (B, C, H, W) in [-1, 1] → logits (B, classes).

    Raises :class:`UserError` for an unknown network.
    """
    if network == SMALL:
        from grasp_bench.downstream import small_cnn

        return small_cnn.build(channels, classes)
    import timm

    name = network.removeprefix(TIMM)
    if not network.startswith(TIMM) or not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models())
        raise UserError(f"network {network!r}: expected {SMALL} or {TIMM}<model>, a model that timm has.{hint}")
    model: torch.nn.Module = timm.create_model(name, pretrained=False, in_chans=channels, num_classes=classes)
    return model
