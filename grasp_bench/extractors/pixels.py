"""The pixels themselves as features, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from grasp_bench.extractors.network import NetworkExtractor, Preprocessing
from grasp_bench.extractors.weights import refuse

SIDE = 32


class Pixels(NetworkExtractor):
    """The image as RGB at 32×32 (antialiased bilinear), in [0, 1]: 3,072 values, channel by channel"""

    version = "1"

    @classmethod
    def from_weights(cls, weights: Path | None, argument: str = "") -> Self:
        from torch import nn

        refuse(weights, "pixels", "")
        identity = {"extractor": "pixels", "version": cls.version, "weights": "none", "features": "all values"}
        return cls(nn.Flatten(), identity, Preprocessing((SIDE, SIDE), "bilinear"))
