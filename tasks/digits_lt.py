"""Long-tailed handwritten digits, from scikit-learn: the task that needs no download."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grasp_bench.contracts.spec import STANDARD, budget, by_name, smoke
from grasp_bench.contracts.task import ClassifierRecipe

from .seeded_digits import DigitsSettings as DigitsSettings
from .seeded_digits import SeededDigits

if TYPE_CHECKING:
    import numpy as np


class DigitsLT(SeededDigits):
    """Handwritten digits, 8×8, long-tailed from 60 training images to 4; real data that ships with scikit-learn

    A run's seed draws the split, one of five, and which digits are rare. The pool of the extractor and the validation
    images are the same for every seed, and no split trains or tests on them.
    """

    name = "digits-lt"
    version = "2"
    source = (
        "scikit-learn's load_digits: 1,797 images of the test part of Optical Recognition of Handwritten Digits "
        "(Alpaydin & Kaynak 1998, UCI, doi 10.24432/C50P49, CC BY 4.0). Of every class 30 images are the extractor's "
        "pool and 24 validation; of the others each of five splits draws 60 test images and the long-tailed training "
        "set, and leaves the rest"
    )
    largest, smallest = 60, 4
    pool, validation, test = 30, 24, 60  # with the largest training class the 174 images of "8", the fewest of a digit
    backbone = "tiny-sd3"
    classifier = ClassifierRecipe(epochs=40, batch_size=64, learning_rate=2e-3, seeds=3)
    budgets = by_name(
        budget(STANDARD, steps=600, batch_size=64, warmup_steps=30, images_per_class=60, num_inference_steps=20),
        smoke(16),
    )

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        import numpy as np
        from sklearn.datasets import load_digits

        data = load_digits()
        return (data.images * (255 / 16)).round().astype(np.uint8)[:, None], data.target
