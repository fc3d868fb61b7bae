"""Training a downstream classifier, from an epoch count and a seed alone, so that it resumes exactly."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from grasp_bench import seeds
from grasp_bench.checked import Tensors, find_checked, load_checked, save_checked
from grasp_bench.contracts.task import ClassifierRecipe, Split
from grasp_bench.downstream.augment import augment
from grasp_bench.downstream.networks import build
from grasp_bench.errors import NonFiniteError, UserError

KIND = "epoch"
IN_MEMORY = 2**28  # bytes of images that are read once and kept
PREDICTED_AT_ONCE = 500

Key = tuple[str | int, ...]


@dataclass
class _Progress:
    epoch: int = 0
    best: float = -1.0
    """Balanced accuracy on validation images of the best epoch so far."""
    stale: int = 0
    """Epochs since the best one."""


def train(
    images: Split,
    validation: Split,
    classes: int,
    recipe: ClassifierRecipe,
    key: Key,
    folder: Path,
    device: torch.device,
    advance: Callable[[int], None],
    say: Callable[[str], None] = lambda message: None,
) -> torch.nn.Module:
    """A classifier in evaluation mode; everything random is a function of ``key`` and the epoch.

    ``folder`` keeps a checkpoint while training goes on, from which the same call resumes; ``advance(1)`` is called
    after every epoch, and for all that are left when training ends early.

    Raises :class:`UserError` when the recipe has a ``patience`` and there are no validation images.
    """
    if recipe.patience is not None and len(validation) == 0:
        raise UserError(
            f"the downstream classifier stops after {recipe.patience} epochs without a better score on validation "
            "images, and the task has none. Give it some: its validation split, or a validation_share above 0."
        )
    read = _reader(images)
    with seeds.global_seed(seeds.generator("classifier", *key)):
        model = build(recipe.network, read(np.arange(1)).shape[1], classes, recipe.initial).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * -(-len(images) // recipe.batch_size)
    weights = _class_weights(images.labels, classes, recipe).to(device)
    folder.mkdir(parents=True, exist_ok=True)
    best: Tensors = {}
    progress = _restore(folder, model, optimizer, best, say)
    if progress.epoch:
        advance(progress.epoch)
    while progress.epoch < recipe.epochs and (recipe.patience is None or progress.stale < recipe.patience):
        model.train()
        step = progress.epoch * (steps // recipe.epochs)
        for pixels, labels, generator in _epoch(read, images.labels, recipe, (*key, progress.epoch), device):
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
            half = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
            with seeds.global_seed(generator), half:  # dropout draws from the global generator
                loss = functional.cross_entropy(model(pixels), labels, weights)
            if not loss.isfinite():
                raise NonFiniteError(
                    f"the classifier's loss is {loss.item()} at step {step} (of {' '.join(map(str, key))})"
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
        progress.epoch += 1
        if recipe.patience is not None:
            accuracy = _balanced_accuracy(model.eval(), validation, recipe, device)
            progress.stale += 1
            if accuracy > progress.best:
                progress.best, progress.stale = accuracy, 0
                best.update({name: value.detach().clone() for name, value in model.state_dict().items()})
        _save(folder, model, optimizer, best, progress)
        advance(1)
    advance(recipe.epochs - progress.epoch)
    if best:
        model.load_state_dict(best)
    shutil.rmtree(folder)  # with what a kill left half written, and damaged checkpoints that were moved aside
    return model.eval()


@torch.inference_mode()
def probabilities(model: torch.nn.Module, images: Split, recipe: ClassifierRecipe, device: torch.device) -> np.ndarray:
    """Predicted class probabilities of every image, without augmentation: float32 (n, classes)."""
    rows = np.array_split(np.arange(len(images)), max(1, -(-len(images) // PREDICTED_AT_ONCE)))
    found = [model(_scaled(images.read(each), recipe, device)).float().softmax(dim=1).cpu() for each in rows]
    return torch.cat(found).numpy()


def _reader(images: Split) -> Callable[[np.ndarray], np.ndarray]:
    """A function that reads images, from memory where all of them fit."""
    size = images.read(np.arange(1)).nbytes * len(images)
    if size > IN_MEMORY:
        return images.read
    kept = images.all_images()
    return lambda indices: kept[indices]


def _epoch(
    read: Callable[[np.ndarray], np.ndarray],
    labels: np.ndarray,
    recipe: ClassifierRecipe,
    key: Key,
    device: torch.device,
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Generator]]:
    """Images, classes and a generator for every batch in the epoch's order, the next read while one is worked on."""
    order = seeds.rng("classifier-order", *key).permutation(len(labels))
    # of sizes that differ by at most one: batch normalisation cannot work on a last batch of a single image
    batches = np.array_split(order, -(-len(order) // recipe.batch_size))
    with ThreadPoolExecutor(1) as executor:
        pending = executor.submit(read, batches[0])
        for number, batch in enumerate(batches):
            pixels = pending.result()
            if number + 1 < len(batches):
                pending = executor.submit(read, batches[number + 1])
            generator = seeds.generator("classifier-batch", *key, number)
            scaled = augment(_scaled(pixels, recipe, device), recipe.augmentation, generator)
            yield scaled, torch.from_numpy(labels[batch]).to(device), generator


def _scaled(pixels: np.ndarray, recipe: ClassifierRecipe, device: torch.device) -> torch.Tensor:
    """uint8 (n, C, H, W) → float in [-1, 1], at the recipe's resolution."""
    return resized(torch.from_numpy(pixels).to(device).float() / 127.5 - 1, recipe)


def resized(images: torch.Tensor, recipe: ClassifierRecipe) -> torch.Tensor:
    """Images (n, C, H, W) in [-1, 1] at the recipe's resolution, as a classifier reads them."""
    size = recipe.resolution
    if size is None or images.shape[2:] == (size, size):
        return images
    return functional.interpolate(images, (size, size), mode="bilinear", antialias=True)


def _class_weights(labels: np.ndarray, classes: int, recipe: ClassifierRecipe) -> torch.Tensor:
    """Weights (classes,): n / (present classes · n of the class), and 0 for classes without images; or ones."""
    if recipe.class_weights == "none":
        return torch.ones(classes)
    counts = np.bincount(labels, minlength=classes)
    weights = np.divide(len(labels), counts * (counts > 0).sum(), out=np.zeros(classes), where=counts > 0)
    return torch.from_numpy(weights).float()


def _balanced_accuracy(model: torch.nn.Module, images: Split, recipe: ClassifierRecipe, device: torch.device) -> float:
    right = probabilities(model, images, recipe, device).argmax(1) == images.labels
    return float(np.mean([right[images.labels == label].mean() for label in np.unique(images.labels)]))


def _save(
    folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, best: Tensors, progress: _Progress
) -> None:
    text = json.dumps(asdict(progress)).encode()
    tensors: Tensors = {"progress": torch.frombuffer(bytearray(text), dtype=torch.uint8)}
    tensors |= {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best/{name}": value for name, value in best.items()}
    for index, entries in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{entry}": value for entry, value in entries.items()}
    written = save_checked(folder, KIND, progress.epoch, tensors)
    for _, path in find_checked(folder, KIND):
        if path != written:
            path.unlink()


def _restore(
    folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, best: Tensors, say: Callable[[str], None]
) -> _Progress:
    """Restore the newest undamaged checkpoint, if there is one."""
    for _, path in reversed(find_checked(folder, KIND)):
        tensors = load_checked(path, say)
        if tensors is None:
            continue
        progress = _Progress(**json.loads(bytes(tensors.pop("progress").tolist())))
        device = next(model.parameters()).device
        moments: dict[int, Tensors] = {}
        state: Tensors = {}
        for name, value in tensors.items():
            part, rest = name.split("/", 1)
            if part == "optimizer":
                index, entry = rest.split("/", 1)
                moments.setdefault(int(index), {})[entry] = value
            else:
                (state if part == "model" else best)[rest] = value.to(device)
        model.load_state_dict(state)
        optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
        return progress
    return _Progress()


def topped_up(real: Split, generated: Split, classes: int) -> Split:
    """Real images, and per class as many generated ones as it lacks to the largest class, as far as there are."""
    counts = np.bincount(real.labels, minlength=classes)
    missing = counts.max() - counts
    rows = np.concatenate([np.flatnonzero(generated.labels == c)[: missing[c]] for c in range(classes)])

    def read(indices: np.ndarray) -> np.ndarray:
        chosen = np.asarray(indices)
        is_real = chosen < len(real)
        parts = [
            (where, split.read(own))
            for where, split, own in (
                (is_real, real, chosen[is_real]),
                (~is_real, generated, rows[chosen[~is_real] - len(real)]),
            )
            if len(own)
        ]
        images = np.empty((len(chosen), *parts[0][1].shape[1:]), np.uint8)
        for where, part in parts:
            images[where] = part
        return images

    return Split(
        ids=[*real.ids, *(generated.ids[row] for row in rows)],
        labels=np.concatenate([real.labels, generated.labels[rows]]),
        prompts=[*real.prompts, *(generated.prompts[row] for row in rows)],
        read=read,
    )
