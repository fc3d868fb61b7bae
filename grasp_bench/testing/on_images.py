"""The checks of a feature extractor on test images of digits-lt; the docstring of each is its contract."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from grasp_bench.contracts.extractor import Extractor, PretrainedExtractor
from grasp_bench.contracts.task import Dataset
from grasp_bench.errors import Skip, UserError
from grasp_bench.testing import on_data
from grasp_bench.testing.checks import NotApplicable, require
from grasp_bench.testing.compare import share
from grasp_bench.testing.rig import scratch

IMAGES = 24
TOLERANCE = 1e-5  # of features in batches of another size, as a share of their root mean square
IDENTITY = {"extractor", "version", "weights", "resize", "normalisation", "features"}


@dataclass
class Subject:
    """An extractor, and what it makes of a few images."""

    plugin: type[Extractor]

    @functools.cached_property
    def data(self) -> Dataset:
        """The data of digits-lt, whose images are uint8 (n, 1, 8, 8)."""
        return on_data.Subject("digits-lt", ()).data

    @functools.cached_property
    def built(self) -> Path | Skip:
        """The folder that build() left, or why it cannot be built here."""
        if argument := getattr(self.plugin, "argument", ""):
            return Skip(f"it is nothing without weights of your own, as in NAME:<{argument}>")
        folder = Path(tempfile.mkdtemp(dir=scratch()))
        try:
            self.plugin.build(self.data, len(set(self.data.test.labels.tolist())), folder)
        except UserError as error:
            return Skip(str(error))
        return folder

    def load(self) -> Extractor:
        """The extractor, loaded again. Raises :class:`NotApplicable` where its weights are not here."""
        if isinstance(self.built, Skip):
            raise NotApplicable(self.built.reason)
        return self.plugin.load(self.built)

    @functools.cached_property
    def images(self) -> np.ndarray:
        """Test images of all classes."""
        test = self.data.test
        return test.read(np.linspace(0, len(test) - 1, IMAGES).astype(int))

    @functools.cached_property
    def features(self) -> np.ndarray:
        """The features (n, d) of all images, from one call."""
        return self.load().features(self.images)


def shape(subject: Subject) -> None:
    """Features of n images are float64 (n, d), finite, and not the same for all images."""
    found, expected = subject.features, f"({IMAGES}, d)"
    kind = f"{type(found).__name__} of {getattr(found, 'dtype', 'no dtype')}"
    require(isinstance(found, np.ndarray) and found.dtype == np.float64, f"{kind}, expected float64 {expected}")
    require(found.ndim == 2 and len(found) == IMAGES, f"an array of shape {found.shape}, expected {expected}")
    require(np.isfinite(found).all(), "features that are not finite")
    require((found != found[0]).any(), f"{IMAGES} different images with equal features")


def deterministic(subject: Subject) -> None:
    """An extractor gives equal images equal features, bit for bit, loaded again and whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        again = subject.load().features(subject.images)
    require(
        np.array_equal(again, subject.features), f"features that differ by up to {share(again, subject.features):.2g}"
    )


def image_alone(subject: Subject) -> None:
    """Row i is of image i, and depends on no other image, up to rounding (1e-5 of its size)."""
    extractor = subject.load()
    alone = np.concatenate([extractor.features(subject.images[row : row + 1]) for row in range(IMAGES)])
    turned = extractor.features(subject.images[::-1].copy())[::-1]
    for words, found in (("by themselves", alone), ("in the reverse order", turned)):
        distance = share(found, subject.features)
        require(distance <= TOLERANCE, f"features of images {words} that differ by up to {distance:.2g} of their size")


def identity(subject: Subject) -> None:
    """An extractor of weights from elsewhere states all that its numbers depend on."""
    extractor = subject.load()
    if not isinstance(extractor, PretrainedExtractor):
        raise NotApplicable("it is built from a task's own data")
    missing = IDENTITY - extractor.identity.keys()
    require(not missing, f"an identity without {', '.join(sorted(missing))}")
    version = extractor.identity["version"]
    expected = subject.plugin.version
    require(version == expected, f"version {version} in the identity, {expected} in the class")
