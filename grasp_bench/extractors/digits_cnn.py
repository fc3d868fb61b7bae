"""Features from a small classifier trained on a task's own pool of held-out images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

from grasp_bench.extractors.base import Extractor
from grasp_bench.task import ClassifierRecipe

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from grasp_bench.task import Dataset

WEIGHTS = "digits-cnn.safetensors"
RECIPE = ClassifierRecipe(epochs=40, batch_size=64, learning_rate=2e-3)


class DigitsCNN(Extractor):
    """The 32 values of the last hidden layer, before its ReLU, of a small CNN trained on the task's held-out pool"""

    version = "1"

    def __init__(self, model: nn.Sequential) -> None:
        self.model = model

    @classmethod
    def build(cls, data: Dataset, classes: int, folder: Path) -> None:
        from grasp_bench.downstream import small_cnn
        from grasp_bench.io import write_tensors

        if data.pool is None:
            raise ValueError("digits-cnn is trained on a task's pool, and this task has none")
        model = small_cnn.train(data.pool.all_images(), data.pool.labels, classes, RECIPE, ("digits-cnn",))
        write_tensors(folder / WEIGHTS, model.state_dict())

    @classmethod
    def load(cls, folder: Path) -> Self:
        import torch

        from grasp_bench.downstream import small_cnn
        from grasp_bench.io import read_tensors

        state = read_tensors(folder / WEIGHTS)
        *_, last = state.values()
        with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced
            model = small_cnn.build(state["0.weight"].shape[1], len(last))
        model.load_state_dict(state)
        return cls(model.eval())

    def features(self, images: np.ndarray) -> np.ndarray:
        import numpy as np

        from grasp_bench.downstream import small_cnn

        return small_cnn.predict(self.model[:-2], images).astype(np.float64)
