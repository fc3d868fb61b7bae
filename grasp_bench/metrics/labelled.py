"""Features of images with the classes that they count for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class LabelledFeatures:
    """Features (n, d) with their class indices (n,), or with all labels of images that may have several."""

    features: np.ndarray
    labels: np.ndarray
    """Class of each image; with ``in_focus``, the label that it was generated for."""
    ids: Sequence[str] | None = None
    """Ids of the images (n,); with them, draws do not depend on the order of rows."""
    units: np.ndarray | None = None
    """Id of the unit that each image is resampled with (n,); by default every image is its own unit."""
    sets: np.ndarray | None = None
    """Which labels each image has, bool (n, classes), where it may have several."""
    commonest_first: Sequence[int] = ()
    """Class indices by falling number of training images; needed beside ``sets``."""
    in_focus: bool = False
    """Whether images were generated for the label in ``labels``: they count for it and for no other label that they
    have, since only these have the sets that real images of that label have."""

    def among(self, classes: Sequence[int] | np.ndarray) -> np.ndarray:
        """The one of ``classes`` that each image counts for where these are scored together, (n,).

        An image that has several of them counts for the rarest, so that none is there twice. The number of an image
        that counts for none of them is another.
        """
        if self.sets is None:
            return self.labels
        found, asked = np.full(len(self.labels), -1), set(map(int, classes))
        for index in self.commonest_first:
            if index in asked:
                found[self.sets[:, index]] = index
        return np.where(found == self.labels, found, -1) if self.in_focus else found

    def ordered(self) -> LabelledFeatures:
        """These features in the order of their ids."""
        if self.ids is None:
            return self
        order = np.argsort(np.asarray(self.ids), kind="stable")
        units, sets = (None if each is None else each[order] for each in (self.units, self.sets))
        return replace(self, features=self.features[order], labels=self.labels[order], ids=None, units=units, sets=sets)
