"""A classifier of a task's own images, for guidances that ask one what it sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import Field

from grasp_bench.contracts.guidance import Guidance
from grasp_bench.contracts.settings import Settings
from grasp_bench.contracts.task import ClassifierRecipe
from grasp_bench.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from grasp_bench.contracts.guidance import Workshop
    from grasp_bench.contracts.task import Split

WEIGHTS = "classifier.safetensors"
REPORT = "classifier.json"


class ClassifierSettings(Settings):
    """Settings of every guidance that learns a classifier; one adds its own."""

    network: str = "small-cnn"
    """Network of the classifier, small-cnn or timm:<model>, trained from scratch"""
    resolution: int | None = Field(default=None, ge=8, le=1024)
    """Side, in pixels, of the images that the classifier sees; none: their own"""
    epochs: int = Field(default=40, ge=1, le=1000)
    """Passes of the classifier over the training images; the best epoch on validation images is kept"""
    learning_rate: float = Field(default=2e-3, gt=0, le=1)
    """Peak learning rate of AdamW, which falls to zero along a cosine"""
    class_weights: Literal["none", "balanced"] = "none"
    """Weights of classes in the classifier's loss: none, so that it favours frequent classes, or balanced"""

    @property
    def recipe(self) -> ClassifierRecipe:
        """How the classifier is trained."""
        return ClassifierRecipe(
            epochs=self.epochs,
            batch_size=64,
            learning_rate=self.learning_rate,
            network=self.network,
            class_weights=self.class_weights,
            patience=self.epochs,  # so it never ends early, and the best epoch's weights are kept
            resolution=self.resolution,
        )


C_co = TypeVar("C_co", bound=ClassifierSettings, covariant=True)


@dataclass(frozen=True)
class ImageClassifier:
    """A trained classifier, frozen."""

    network: torch.nn.Module
    recipe: ClassifierRecipe

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, classes) of images (B, C, H, W) in [-1, 1], in the precision of the classifier's weights."""
        from grasp_bench.downstream.classifier import resized

        weights = next(self.network.parameters())
        logits: torch.Tensor = self.network(resized(images.to(weights), self.recipe))
        return logits


class ClassifierGuided(Guidance[C_co]):
    """Base of the guidances that ask a classifier, which is trained on the task's training images."""

    learns = True

    classify: ImageClassifier
    """On the device and in the precision of sampling; set by :meth:`prepare`."""

    def learn(self, workshop: Workshop, folder: Path) -> None:
        """Train on the task's training images; write the weights and the recall per class on validation images.

        Both go into ``folder``; the recalls say how far the classifier is biased to the head. Raises
        :class:`UserError` for a task with a single class or no validation images, and for a network that does not take
        its images.
        """
        from grasp_bench.downstream import classifier, networks
        from grasp_bench.io import write_json, write_tensors

        data, names, recipe = workshop.data(), [info.name for info in workshop.task.classes()], self.config.recipe
        task, device, say = workshop.spec.task.name, workshop.device, workshop.progress.say
        owner = f"guidance {workshop.spec.guidance.name} trains a classifier"
        if len(names) < 2:
            raise UserError(f"{owner}, and task {task} has a single class. Choose another guidance.")
        if len(data.validation) == 0:
            raise UserError(
                f"{owner} and chooses its weights on validation images, and task {task} has none. Give it some (its "
                "validation split, or a validation_share above 0), or choose another guidance."
            )
        channels, height, _ = _image_shape(data.train)
        networks.check(recipe.network, channels, recipe.resolution or height, len(names))
        key = ("guide", task, workshop.spec.seed)  # one classifier, whichever guidance asks it
        with workshop.progress.task("classifier for guidance", recipe.epochs) as advance:
            model = classifier.train(
                data.train, data.validation, len(names), recipe, key, folder / "training", device, advance, say
            )
        predicted = classifier.probabilities(model, data.validation, recipe, device).argmax(1)
        right, labels = predicted == data.validation.labels, data.validation.labels
        recall = {names[label]: float(right[labels == label].mean()) for label in sorted(set(labels.tolist()))}
        write_json(folder / REPORT, {"validation_recall": recall})
        write_tensors(folder / WEIGHTS, model.state_dict())

    def prepare(self, workshop: Workshop, folder: Path | None) -> None:
        from grasp_bench import seeds
        from grasp_bench.downstream.networks import build
        from grasp_bench.io import read_tensors

        assert folder is not None  # it learns
        channels, _, _ = _image_shape(workshop.data().train)
        with seeds.global_seed(workshop.generator("classifier")):  # fresh weights, which the learned ones replace
            network = build(self.config.network, channels, len(workshop.task.classes()))
        network.load_state_dict(read_tensors(folder / WEIGHTS))
        network.to(workshop.device, workshop.dtype).requires_grad_(False).eval()
        self.classify = ImageClassifier(network, self.config.recipe)


def _image_shape(split: Split) -> tuple[int, int, int]:
    import numpy as np

    channels, height, width = split.read(np.arange(1)).shape[1:]
    return channels, height, width
