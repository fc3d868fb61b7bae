"""A classifier of a task's own images, for guidances that ask one what it sees."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    ensemble: list[ImageClassifier]
    """The trained classifiers, :attr:`members` of them; ``classify`` is the first."""

    @property
    def members(self) -> int:
        """Classifiers that are trained, on the same images from weights and in orders of their own."""
        return 1

    def learn(self, workshop: Workshop, folder: Path) -> None:
        """Train on the task's training images; write the weights and the recall per class on validation images.

        Both go into ``folder``; the recalls, of the mean of the members' probabilities, say how far the classifier is
        biased to the head. Raises
        :class:`UserError` for a task with a single class or no validation images, and for a network that does not take
        its images.
        """
        from grasp_bench.downstream import classifier, networks
        from grasp_bench.io import write_json, write_tensors

        names, recipe = [info.name for info in workshop.task.classes()], self.config.recipe
        # an image of several labels counts as its class, which is what guidance leads towards
        train, validation = (replace(each, sets=None) for each in (workshop.data().train, workshop.data().validation))
        task, device, say = workshop.spec.task.name, workshop.device, workshop.progress.say
        owner = f"guidance {workshop.spec.guidance.name} trains a classifier"
        if len(names) < 2:
            raise UserError(f"{owner}, and task {task} has a single class. Choose another guidance.")
        if len(validation) == 0:
            raise UserError(
                f"{owner} and chooses its weights on validation images, and task {task} has none. Give it some (its "
                "validation split, or a validation_share above 0), or choose another guidance."
            )
        channels, height, _ = _image_shape(train)
        networks.check(recipe.network, channels, recipe.resolution or height, len(names))
        found = []
        with workshop.progress.task("classifier for guidance", recipe.epochs * self.members) as advance:
            for member in range(self.members):
                own = (member,) if member else ()  # the first is the same, whichever guidance asks it
                key = ("guide", task, workshop.spec.seed, *own)
                model = classifier.train(
                    train, validation, len(names), recipe, key, folder / "training", device, advance, say
                )
                found.append(classifier.probabilities(model, validation, recipe, device, say))
                write_tensors(folder / weights_file(member), model.state_dict())
        predicted, labels = sum(found[1:], found[0]).argmax(1), validation.labels
        right = predicted == labels
        recall = {names[label]: float(right[labels == label].mean()) for label in sorted(set(labels.tolist()))}
        write_json(folder / REPORT, {"validation_recall": recall})

    def prepare(self, workshop: Workshop, folder: Path | None) -> None:
        assert folder is not None  # it learns
        names = [weights_file(member) for member in range(self.members)]
        self.ensemble = [loaded(workshop, self.config.recipe, folder / name) for name in names]
        self.classify = self.ensemble[0]


def weights_file(member: int) -> str:
    """Name of the file of a member's weights."""
    return f"classifier-{member}.safetensors" if member else WEIGHTS


def loaded(workshop: Workshop, recipe: ClassifierRecipe, path: Path) -> ImageClassifier:
    """A classifier whose weights ``path`` has, frozen, on the device and in the precision of sampling."""
    from grasp_bench import seeds
    from grasp_bench.downstream.networks import build
    from grasp_bench.io import read_tensors

    channels, _, _ = _image_shape(workshop.data().train)
    with seeds.global_seed(workshop.generator("classifier")):  # fresh weights, which the learned ones replace
        network = build(recipe.network, channels, len(workshop.task.classes()))
    network.load_state_dict(read_tensors(path))
    network.to(workshop.device, workshop.dtype).requires_grad_(False).eval()
    return ImageClassifier(network, recipe)


def _image_shape(split: Split) -> tuple[int, int, int]:
    import numpy as np

    channels, height, width = split.read(np.arange(1)).shape[1:]
    return channels, height, width
