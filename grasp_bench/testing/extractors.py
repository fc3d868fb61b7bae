"""The conformance suite of a feature extractor."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grasp_bench import plugins
from grasp_bench.contracts.extractor import Extractor, PretrainedExtractor
from grasp_bench.errors import Skip, UserError
from grasp_bench.testing.checks import Check, NotApplicable, checks_of, require, source_of
from grasp_bench.testing.declarations import declaration_checks

if TYPE_CHECKING:
    import numpy as np

    from grasp_bench.contracts.task import Dataset

TASK = "digits-lt"
IMAGES = 24
TOLERANCE = 1e-5  # of features in batches of another size, as a share of their root mean square
IDENTITY = {"extractor", "version", "weights", "resize", "normalisation", "features"}
CONTRACT = {
    "shape": "Features of n images are float64 (n, d), finite, and not the same for all images.",
    "deterministic": "The same images give the same features, bit for bit, loaded again and whatever was drawn before.",
    "image-alone": "Row i is of image i, and depends on no other image, up to rounding (1e-5 of its size).",
    "identity": "An extractor of weights from elsewhere states all that its numbers depend on.",
}
"""Check → what must be so."""


def extractor_checks(name: str, settings: Sequence[str] = ()) -> list[Check]:
    """The checks of the feature extractor ``name``, on test images of digits-lt.

    Raises :class:`UserError` for an unknown name, for a plugin that cannot be loaded and for settings, of which
    extractors have none.
    """
    plugin = plugins.load("extractors", name)
    if settings:
        raise UserError(f"extractor {name} has no settings: leave out {', '.join(settings)}.")
    return declaration_checks("extractors", plugin) + checks_of({"extractors": CONTRACT}, (plugin,), source_of(plugin))


class Subject:
    """An extractor, and what it makes of a few images."""

    def __init__(self, plugin: type[Extractor]) -> None:
        self.plugin = plugin

    @functools.cached_property
    def data(self) -> Dataset:
        """Of digits-lt, whose images are uint8 (n, 1, 8, 8)."""
        from grasp_bench.testing.data import Subject as TaskSubject

        return TaskSubject(TASK, ()).data

    @functools.cached_property
    def built(self) -> Path | Skip:
        """The folder that build() left, or why it cannot be built here."""
        from grasp_bench.testing.rig import scratch

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
        import numpy as np

        test = self.data.test
        return test.read(np.linspace(0, len(test) - 1, IMAGES).astype(int))

    @functools.cached_property
    def features(self) -> np.ndarray:
        """Of all images in one call: (n, d)."""
        return self.load().features(self.images)


def shape(subject: Subject) -> None:
    """The type, the shape and the numbers of features."""
    import numpy as np

    found, expected = subject.features, f"({IMAGES}, d)"
    require(isinstance(found, np.ndarray) and found.dtype == np.float64, f"{_kind(found)}, expected float64 {expected}")
    require(found.ndim == 2 and len(found) == IMAGES, f"an array of shape {found.shape}, expected {expected}")
    require(bool(np.isfinite(found).all()), "features that are not finite")
    require(bool((found != found[0]).any()), f"{IMAGES} different images with equal features")


def deterministic(subject: Subject) -> None:
    """Features by the extractor when it is loaded again, after other draws."""
    import numpy as np
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        again = subject.load().features(subject.images)
    require(
        np.array_equal(again, subject.features), f"features that differ by up to {_share(again, subject.features):.2g}"
    )


def image_alone(subject: Subject) -> None:
    """Images by themselves, and in the reverse order."""
    import numpy as np

    extractor = subject.load()
    alone = np.concatenate([extractor.features(subject.images[row : row + 1]) for row in range(IMAGES)])
    turned = extractor.features(subject.images[::-1].copy())[::-1]
    for words, found in (("by themselves", alone), ("in the reverse order", turned)):
        distance = _share(found, subject.features)
        require(distance <= TOLERANCE, f"features of images {words} that differ by up to {distance:.2g} of their size")


def identity(subject: Subject) -> None:
    """What the identity states."""
    extractor = subject.load()
    if not isinstance(extractor, PretrainedExtractor):
        raise NotApplicable("it is built from a task's own data")
    missing = IDENTITY - extractor.identity.keys()
    require(not missing, f"an identity without {', '.join(sorted(missing))}")
    version = extractor.identity["version"]
    require(
        version == subject.plugin.version, f"version {version} in the identity, {subject.plugin.version} in the class"
    )


def _share(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, as a share of the root mean square."""
    return float(abs(found - expected).max() / ((expected**2).mean() ** 0.5 or 1))


def _kind(found: Any) -> str:
    return f"{type(found).__name__} of {getattr(found, 'dtype', 'no dtype')}"
