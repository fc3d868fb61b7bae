"""Training a downstream classifier, from an epoch count and a seed alone, so that it resumes exactly."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch.nn import functional

from grasp_bench import seeds
from grasp_bench.checked import Tensors, find_checked, load_checked, save_checked
from grasp_bench.contracts.task import ClassifierRecipe, Split, membership
from grasp_bench.downstream.augment import augment
from grasp_bench.downstream.networks import build
from grasp_bench.errors import UserError
from grasp_bench.finite import FiniteCheck
from grasp_bench.io import remove
from grasp_bench.memory import Portion, in_one_part
from grasp_bench.precision import exact_convolutions
from grasp_bench.processes import sent

KIND = "epoch"
IN_MEMORY = 2**28  # bytes of images that are read once and kept
PREDICTED_AT_ONCE = 500
WHOLE = (
    "A classifier's batch is never worked on in parts: its batch normalisation and the weights of its loss go by all "
    "images of a batch. Choose a smaller network or resolution of the classifier, or a GPU with more memory"
)
"""Why less memory cannot be had, where it runs out in training."""

Key = tuple[str | int, ...]


@dataclass
class _Progress:
    epoch: int = 0
    best: float = -1.0
    """Score on validation images of the best epoch so far."""
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
    after every epoch, and for all that are left when training ends early. Images that may have several labels are
    learnt with binary cross-entropy, a label each.

    Raises :class:`NonFiniteError` for a loss that is not finite, on a GPU some steps later, and
    :class:`UserError` when the recipe has a ``patience`` and there are no validation images.
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
    weights = _class_weights(images.truth, classes, recipe).to(device)
    folder.mkdir(parents=True, exist_ok=True)
    best: Tensors = {}
    progress = _restore(folder, model, optimizer, best, say)
    finite = FiniteCheck(device, [f"loss of the classifier {' '.join(map(str, key))}"])
    if progress.epoch:
        advance(progress.epoch)
    while progress.epoch < recipe.epochs and (recipe.patience is None or progress.stale < recipe.patience):
        model.train()
        step = progress.epoch * (steps // recipe.epochs)
        for rows, pixels, truth, generator in _epoch(read, images.truth, recipe, (*key, progress.epoch), device):
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
            half = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
            # dropout draws from the global generator
            with in_one_part(WHOLE), seeds.global_seed(generator), half:
                loss = _loss(model(pixels), truth, weights)
            finite.see(step, [images.ids[row] for row in rows], loss)
            optimizer.zero_grad()
            with in_one_part(WHOLE):
                loss.backward()
                optimizer.step()
            step += 1
        finite.settle()  # before what it spoiled is kept
        progress.epoch += 1
        if recipe.patience is not None:
            reached = _validated(model.eval(), validation, recipe, device, say)
            progress.stale += 1
            if reached > progress.best:
                progress.best, progress.stale = reached, 0
                best.update({name: value.detach().clone() for name, value in model.state_dict().items()})
        _save(folder, model, optimizer, best, progress)
        advance(1)
    advance(recipe.epochs - progress.epoch)
    if best:
        model.load_state_dict(best)
    remove(folder)  # with what a kill left half written, and damaged checkpoints that were moved aside
    return model.eval()


def probabilities(
    model: torch.nn.Module,
    images: Split,
    recipe: ClassifierRecipe,
    device: torch.device,
    say: Callable[[str], None] = lambda message: None,
) -> np.ndarray:
    """Predicted class probabilities of every image, without augmentation: float32 (n, classes)."""
    return predicted(model, images, recipe, device, say, lambda logits: logits.softmax(dim=1))


@torch.inference_mode()
def predicted(
    model: torch.nn.Module,
    images: Split,
    recipe: ClassifierRecipe,
    device: torch.device,
    say: Callable[[str], None],
    answer: Callable[[torch.Tensor], torch.Tensor],
) -> np.ndarray:
    """What ``answer`` makes of the logits of every image, without augmentation: float32 (n, classes)."""
    portion = Portion(PREDICTED_AT_ONCE, "images are classified", say)

    def of(rows: np.ndarray) -> torch.Tensor:
        logits: torch.Tensor = model(_scaled(sent(torch.from_numpy(images.read(rows)), device), recipe))
        return answer(logits.float()).cpu()

    rows = np.array_split(np.arange(len(images)), max(1, -(-len(images) // PREDICTED_AT_ONCE)))
    with exact_convolutions():  # so that images have the same classes on every card
        return torch.cat([found for part in rows for found in portion.over(part, of)]).numpy()


def _reader(images: Split) -> Callable[[np.ndarray], np.ndarray]:
    """A function that reads images, from memory where all of them fit."""
    size = images.read(np.arange(1)).nbytes * len(images)
    if size > IN_MEMORY:
        return images.read
    kept = images.all_images()
    return lambda indices: kept[indices]


def _epoch(
    read: Callable[[np.ndarray], np.ndarray],
    truth: np.ndarray,
    recipe: ClassifierRecipe,
    key: Key,
    device: torch.device,
) -> Iterator[tuple[np.ndarray, torch.Tensor, torch.Tensor, torch.Generator]]:
    """Row numbers, images, classes or label sets, and a generator for every batch in the epoch's order.

    The next batch is read while one is worked on.
    """
    order = seeds.rng("classifier-order", *key).permutation(len(truth))
    # of sizes that differ by at most one: batch normalisation cannot work on a last batch of a single image
    batches = np.array_split(order, -(-len(order) // recipe.batch_size))
    with ThreadPoolExecutor(1) as executor:
        pending = executor.submit(read, batches[0])
        for number, batch in enumerate(batches):
            pixels = pending.result()
            if number + 1 < len(batches):
                pending = executor.submit(read, batches[number + 1])
            generator = seeds.generator("classifier-batch", *key, number)
            images, known = (sent(torch.from_numpy(each), device) for each in (pixels, truth[batch]))
            yield batch, augment(_scaled(images, recipe), recipe.augmentation, generator), known, generator


def _scaled(pixels: torch.Tensor, recipe: ClassifierRecipe) -> torch.Tensor:
    """uint8 (n, C, H, W) → float in [-1, 1], at the recipe's resolution."""
    return resized(pixels.float() / 127.5 - 1, recipe)


def resized(images: torch.Tensor, recipe: ClassifierRecipe) -> torch.Tensor:
    """Images (n, C, H, W) in [-1, 1] at the recipe's resolution, as a classifier reads them."""
    size = recipe.resolution
    if size is None or images.shape[2:] == (size, size):
        return images
    return functional.interpolate(images, (size, size), mode="bilinear", antialias=True)


def _class_weights(truth: np.ndarray, classes: int, recipe: ClassifierRecipe) -> torch.Tensor:
    """Weights (classes,): n / (present classes · n of the class), and 0 for classes without images; or ones.

    Of label sets, those of images that have the label: images without it for each that has it, or 1 where none has.
    """
    if recipe.class_weights == "none":
        return torch.ones(classes)
    counts, n = membership(truth, classes).sum(axis=0), len(truth)
    if truth.ndim == 2:
        weights = np.divide(n - counts, counts, out=np.ones(classes), where=counts > 0)
    else:
        weights = np.divide(n, counts * (counts > 0).sum(), out=np.zeros(classes), where=counts > 0)
    return torch.from_numpy(weights).float()


def _loss(logits: torch.Tensor, truth: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of classes (n,), or mean binary cross-entropy of label sets, bool (n, classes)."""
    if truth.ndim == 1:
        return functional.cross_entropy(logits, truth, weights)
    return functional.binary_cross_entropy_with_logits(logits, truth.to(logits.dtype), pos_weight=weights)


def _validated(
    model: torch.nn.Module, images: Split, recipe: ClassifierRecipe, device: torch.device, say: Callable[[str], None]
) -> float:
    """Balanced accuracy, or of label sets the mean over their labels of the average precision."""
    if images.sets is not None:
        scores = predicted(model, images, recipe, device, say, lambda logits: logits)
        there = np.flatnonzero(images.sets.any(axis=0))
        return float(average_precision_score(images.sets[:, there], scores[:, there], average="macro"))
    right = probabilities(model, images, recipe, device, say).argmax(1) == images.labels
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
            remove(path)


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
    counts = membership(real.truth, classes).sum(axis=0)
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
        sets=None if real.sets is None else np.concatenate([real.sets, generated.truth[rows]]),
    )
