"""The networks of downstream classifiers, and the training of the small one that gives features."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from grasp_bench import seeds
from grasp_bench.contracts.task import ClassifierRecipe
from grasp_bench.downstream import initial as initial_weights
from grasp_bench.errors import UserError, did_you_mean

FEATURES = 32  # width of the small network's layer before the last
SMALL = "small-cnn"
TIMM = "timm:"


def check(network: str, channels: int, size: int, classes: int, initial: str | None = None) -> None:
    """Raise :class:`UserError` unless ``network`` takes images of ``size`` pixels per side; computes nothing.

    So it does where there is no file of its ``initial`` weights.
    """
    if initial:
        initial_weights.check(_initialised(network, initial), initial)
    with torch.device("meta"):
        model = build(network, channels, classes).train()
        try:
            model(torch.zeros(2, channels, size, size))
        except (RuntimeError, ValueError, AssertionError) as error:
            raise UserError(
                f"network {network!r} takes no images of {size} pixels per side ({error}). Choose another network, or "
                "a recipe with a larger resolution."
            ) from error


def check_name(network: str) -> None:
    """Raise :class:`UserError` for a network that is neither the small one nor one of timm's."""
    if network == SMALL:
        return
    import timm

    name = network.removeprefix(TIMM)
    if not network.startswith(TIMM) or not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models())
        raise UserError(f"network {network!r}: expected {SMALL} or {TIMM}<model>, a model that timm has.{hint}")


def build(network: str, channels: int, classes: int, initial: str | None = None) -> nn.Module:
    """A network with fresh weights from torch's global generator: images (B, C, H, W) in [-1, 1] → logits (B, classes).

    With ``initial``, a tag of timm, all but its last layer are those of a file. Raises :class:`UserError` for an
    unknown network, and as :func:`grasp_bench.downstream.initial.load` does.
    """
    if initial:
        pretrained: nn.Module = initial_weights.load(_initialised(network, initial), initial, channels, classes)
        return pretrained
    if network == SMALL:
        return small_cnn(channels, classes)
    check_name(network)
    import timm

    name = network.removeprefix(TIMM)
    model: nn.Module = timm.create_model(name, pretrained=False, in_chans=channels, num_classes=classes)
    return model


def _initialised(network: str, tag: str) -> str:
    """The timm model of a network that starts from weights. Raises :class:`UserError` for the small network."""
    if not network.startswith(TIMM):
        raise UserError(f"network_weights={tag}: network {network!r} has no weights; choose network={TIMM}<model>.")
    return network.removeprefix(TIMM)


def scale(images: np.ndarray) -> torch.Tensor:
    """uint8 (n, C, H, W) → float in [-1, 1]."""
    return torch.from_numpy(images).float() / 127.5 - 1


def small_cnn(channels: int, classes: int) -> nn.Sequential:
    """A classifier for images of a few pixels per side: two convolutions, adaptive average pooling, two linear layers.

    ``[:-2]`` of the network gives features. Fresh weights come from torch's global generator.
    """
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(64 * 16, FEATURES),
        nn.ReLU(),
        nn.Linear(FEATURES, classes),
    )


def train_small_cnn(
    images: np.ndarray, labels: np.ndarray, classes: int, recipe: ClassifierRecipe, key: tuple[str | int, ...]
) -> nn.Sequential:
    """Train from scratch with AdamW under a cosine schedule; everything random is drawn from the stream ``key``.

    ``images`` uint8 (n, C, H, W), ``labels`` (n,). The number of updates is that of ``recipe.epochs`` passes over the
    images at hand.
    """
    generator = seeds.generator("classifier", *key)
    with seeds.global_seed(generator):
        model = small_cnn(images.shape[1], classes)
    inputs, targets = scale(images), torch.from_numpy(labels)
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate)
    steps = recipe.epochs * -(-len(inputs) // recipe.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(recipe.epochs):
        for batch in torch.randperm(len(inputs), generator=generator).split(recipe.batch_size):
            loss = functional.cross_entropy(model(inputs[batch]), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.inference_mode()
def predict(model: nn.Module, images: np.ndarray, batch_size: int = 1000) -> np.ndarray:
    """Outputs of ``model`` for uint8 images (n, C, H, W): (n, outputs)."""
    return torch.cat([model(batch) for batch in scale(images).split(batch_size)]).numpy()
