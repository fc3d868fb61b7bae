"""Extractors with one fault each; but for it they are the pixels."""

from __future__ import annotations

import numpy as np

from grasp_bench.errors import UserError
from grasp_bench.extractors.pixels import Pixels


class HalfPrecision(Pixels):
    """Pixels in single precision"""

    def features(self, images, batch_size=64):
        return super().features(images, batch_size).astype(np.float32)


class Constant(Pixels):
    """Pixels of a blank"""

    def features(self, images, batch_size=64):
        return 0 * super().features(images, batch_size)


class Noisy(Pixels):
    """Pixels with noise"""

    def features(self, images, batch_size=64):
        found = super().features(images, batch_size)
        return found + np.random.normal(size=found.shape)


class Centred(Pixels):
    """Pixels less their mean over the images"""

    def features(self, images, batch_size=64):
        found = super().features(images, batch_size)
        return found - found.mean(0)


class Nameless(Pixels):
    """Pixels that do not say what they are"""

    @classmethod
    def from_weights(cls, weights, argument=""):
        extractor = super().from_weights(weights, argument)
        extractor.identity = {"extractor": "pixels", "version": "0"}
        return extractor


class Weightless(Pixels):
    """Pixels whose weights are somewhere else"""

    @classmethod
    def from_weights(cls, weights, argument=""):
        raise UserError("needs --weights")
