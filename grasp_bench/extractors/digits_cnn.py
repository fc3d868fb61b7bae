"""Features from a small classifier trained on a task's own pool of held-out images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from grasp_bench.contracts.extractor import PretrainedExtractor
from grasp_bench.contracts.task import ClassifierRecipe
from grasp_bench.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from grasp_bench.contracts.task import Dataset

WEIGHTS = "digits-cnn.safetensors"
RECIPE = ClassifierRecipe(epochs=40, batch_size=64, learning_rate=2e-3)


class DigitsCNN(PretrainedExtractor):
    """The 32 values of the last hidden layer, before its ReLU, of a small CNN trained on the task's held-out pool

    Images are of one size, and not resized. RGB that is grey throughout is taken as greyscale.
    """

    version = "1"

    def __init__(self, model: nn.Sequential, identity: dict[str, str]) -> None:
        self.model, self.identity = model, identity

    @classmethod
    def build(cls, data: Dataset, classes: int, folder: Path) -> None:
        from grasp_bench.downstream import networks
        from grasp_bench.io import write_tensors

        if data.pool is None:
            raise UserError(
                "digits-cnn is trained on images that a task holds out, and this task holds out none. Choose another "
                "extractor."
            )
        model = networks.train_small_cnn(data.pool.all_images(), data.pool.labels, classes, RECIPE, ("digits-cnn",))
        write_tensors(folder / WEIGHTS, model.state_dict())

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls.from_weights(folder / WEIGHTS)

    @classmethod
    def from_weights(cls, weights: Path | None, argument: str = "") -> Self:
        from grasp_bench.downstream import networks
        from grasp_bench.extractors.weights import drawn_apart, fill, read_safetensors
        from grasp_bench.io import file_digest

        if weights is None:
            raise UserError(
                f"digits-cnn: needs --weights {WEIGHTS}. `grasp-bench run` with the task digits-lt trains it, and "
                "leaves it in the folder `extractor` of its work folder."
            )
        state = read_safetensors(weights)
        if "0.weight" not in state:
            raise UserError(f"{weights}: are not the weights of digits-cnn; it holds {', '.join(sorted(state)[:5])}.")
        *_, last = state.values()
        model = drawn_apart(lambda: networks.small_cnn(state["0.weight"].shape[1], len(last)))
        fill(model, state, weights, "digits-cnn")
        identity = {
            "extractor": "digits-cnn",
            "version": cls.version,
            "weights": file_digest(weights),
            "resize": "none",
            "normalisation": "to [-1, 1]",
            "features": "32 values of the last hidden layer before its ReLU",
        }
        return cls(model.eval(), identity)

    def features(self, images: Iterable[np.ndarray], batch_size: int = 1000) -> np.ndarray:
        import numpy as np

        from grasp_bench.downstream import networks

        images = list(images)
        if len(sizes := {image.shape for image in images}) > 1:
            raise UserError(f"digits-cnn: takes images of one size, found {len(sizes)}: {sorted(sizes)[:5]}.")
        stacked = np.stack(images)
        if stacked.shape[1] == 3 and self.model[0].in_channels == 1:
            if (stacked != stacked[:, :1]).any():
                raise UserError("digits-cnn: takes greyscale images, found colour.")
            stacked = stacked[:, :1]
        return networks.predict(self.model[:-2], stacked, batch_size).astype(np.float64)
