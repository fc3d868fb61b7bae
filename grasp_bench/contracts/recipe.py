"""How downstream classifiers are trained: stated once for a task, the same for every method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a classifier but its data and its seed."""

    epochs: int
    batch_size: int
    learning_rate: float
    """Peak of AdamW's, which falls to zero along a cosine."""
    network: str = "small-cnn"
    """small-cnn, or timm:<model>; from scratch."""
    weight_decay: float = 0.01
    augmentation: tuple[Literal["flip", "crop", "rotate"], ...] = ()
    """Horizontal flips, crops of the image padded by an eighth, rotations by up to 10 degrees."""
    class_weights: Literal["none", "balanced"] = "none"
    """"balanced" weights the loss of each image by the inverse of its class's number of images."""
    patience: int | None = None
    """Epochs without a better balanced accuracy on validation images before training ends; the best epoch's weights
    are kept then. Without it the last epoch's are."""
    seeds: int = 1
    """Classifiers trained, whose scores are averaged."""
    resolution: int | None = None
    """Pixels a side that images are resized to; as they come if absent."""
