"""The classifier learns, is deterministic and draws from its own stream."""

from pathlib import Path

import numpy as np
import torch

from grasp_bench.contracts.task import ClassifierRecipe, Dataset, Split
from grasp_bench.downstream import networks
from grasp_bench.extractors.digits_cnn import DigitsCNN

RECIPE = ClassifierRecipe(epochs=8, batch_size=16, learning_rate=5e-3)


def bars(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images with a bright row (class 0) or column (class 1)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=count)
    images = rng.integers(0, 120, (count, 1, 8, 8)).astype(np.uint8)
    for image, label, place in zip(images, labels, rng.integers(8, size=count), strict=True):
        image[0][(place, slice(None)) if label == 0 else (slice(None), place)] = 255
    return images, labels


def test_it_learns_what_can_be_learned() -> None:
    images, labels = bars(300, 0)
    model = networks.train_small_cnn(images, labels, 2, RECIPE, ("test", 0))
    unseen, truth = bars(200, 1)
    assert (networks.predict(model, unseen).argmax(1) == truth).mean() > 0.9


def test_the_same_key_gives_the_same_weights_whatever_the_global_generator() -> None:
    images, labels = bars(60, 0)
    weights = []
    for seed, key in [(1, "a"), (2, "a"), (3, "b")]:
        torch.manual_seed(seed)
        weights.append(networks.train_small_cnn(images, labels, 2, RECIPE, (key,)).state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_features_are_the_last_hidden_layer_and_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    images, labels = bars(40, 0)
    pool = Split([str(i) for i in range(40)], labels, [""] * 40, lambda indices: images[indices])
    DigitsCNN.build(Dataset(pool, pool, pool, pool), 2, tmp_path)
    extractor = DigitsCNN.load(tmp_path)
    features = extractor.features(images)
    assert features.shape == (40, networks.FEATURES)
    assert features.dtype == np.float64
    logits = extractor.model[-2:](torch.from_numpy(features).float())
    np.testing.assert_allclose(logits.detach().numpy(), networks.predict(extractor.model, images), rtol=1e-4, atol=1e-4)
    alone = np.concatenate([extractor.features(images[i : i + 1]) for i in range(40)])
    np.testing.assert_allclose(alone, features, rtol=1e-4, atol=1e-4)
